"""`dev` does not start on a port that is taken."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner
from ports import reserved_port

from fastdup_dagster.cli import main


@pytest.mark.parametrize("option", ["--port", "--pages-port"])
def test_a_taken_port_is_refused_by_the_name_of_its_option(home, option):
    with socket.socket() as taken, reserved_port() as free, reserved_port() as another:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        numbers = {"--port": free, "--pages-port": another}
        numbers[option] = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["dev", *(str(part) for pair in numbers.items() for part in pair)])
    assert result.exit_code == 2
    assert f"port {numbers[option]}: Address already in use; choose another {option}" in " ".join(result.output.split())
    assert "Dagster UI" not in result.output


def test_both_on_one_port_are_refused(home):
    with reserved_port() as port:
        result = CliRunner().invoke(main, ["dev", "--port", str(port), "--pages-port", str(port)])
    assert result.exit_code == 2
    assert "choose two" in result.output
