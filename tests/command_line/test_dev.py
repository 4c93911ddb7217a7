"""`dev` does not start on a port that is taken."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from fastdup_dagster.cli import main


@pytest.mark.parametrize("option", ["--port", "--pages-port"])
def test_a_taken_port_is_refused_by_the_name_of_its_option(home, option):
    with socket.socket() as taken, socket.socket() as free:
        for one in (taken, free):
            one.bind(("127.0.0.1", 0))
        taken.listen()
        numbers = {"--port": free.getsockname()[1], "--pages-port": free.getsockname()[1] - 1}
        numbers[option] = taken.getsockname()[1]
        free.close()
        result = CliRunner().invoke(main, ["dev", *(str(part) for pair in numbers.items() for part in pair)])
    assert result.exit_code == 2
    assert f"port {numbers[option]}: Address already in use; choose another {option}" in " ".join(result.output.split())
    assert "Dagster UI" not in result.output


def test_both_on_one_port_are_refused(home):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    result = CliRunner().invoke(main, ["dev", "--port", port, "--pages-port", port])
    assert result.exit_code == 2
    assert "choose two" in result.output
