"""What reading from S3 costs: listing and decode pass of the same photos from a folder and from a server over HTTP.

Fresh processes in turns. The server is moto's, in a process of its own on this machine, so it takes time from the
client: the CPU time is the client's alone, and wall times are compared between the same server with and without latency
added to every request.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from common import Inputs, images_in, judged, parser_for, say_header, say_table, write_json
from edits import SEED, make_jpegs
from processes import measured, plain_environment

WANTED_CPU, WANTED_WALL = 1.25, 1.3
LATENCY = 0.05  # seconds
_BUCKET = "benchmark"
_AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_FIGURES = ("CPU", "start", "wall", "peak MB")
_WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def serve(port: int) -> None:
    """Moto's server; `/_latency?S` makes every later request take S seconds more."""
    import uvicorn
    from moto.server import DomainDispatcherApplication, create_backend_app
    from uvicorn.middleware.wsgi import WSGIMiddleware

    moto: _WSGI = DomainDispatcherApplication(create_backend_app)
    latency = 0.0

    def delayed(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        nonlocal latency
        if environ["PATH_INFO"] == "/_latency":
            latency = float(environ["QUERY_STRING"])
            start("200 OK", [("Content-Length", "0")])
            return []
        time.sleep(latency)
        return moto(environ, start)

    # uvicorn keeps connections open as S3 does; moto's own server closes each after one request.
    uvicorn.run(WSGIMiddleware(delayed, workers=64), host="127.0.0.1", port=port, log_level="critical")  # type: ignore[arg-type]


@contextmanager
def server() -> Iterator[str]:
    """A server in a process of its own; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, ".", "--serve", str(port)])
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def upload(folder: Path, url: str) -> None:
    """Puts every file of a folder into the bucket."""
    import boto3

    os.environ.update(_AWS)
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=_BUCKET)
    for path in images_in(folder):
        client.put_object(Bucket=_BUCKET, Key=path.relative_to(folder).as_posix(), Body=path.read_bytes())


def read(place: str, out: Path, threads: int) -> dict[str, Any]:
    """Listing and decode pass, as a run does them.

    `start` is the part of the CPU time that the first request takes, once a run: botocore is loaded for it.
    """
    from fastdup_dagster.models import load_model
    from fastdup_dagster.schemas import EMBEDDINGS, IMG_STATS
    from fastdup_dagster.settings import settings_from
    from fastdup_dagster.sources import is_remote, open_source
    from fastdup_dagster.sources.locations import location
    from fastdup_dagster.sources.object_store import object_store
    from fastdup_dagster.stages.features import compute_features
    from fastdup_dagster.stages.image_manifest import list_images
    from fastdup_dagster.storage import TableStore, table_digest

    settings = settings_from({"num_threads": threads})
    model, store, key = load_model(settings), TableStore(out), "benchmark/all"
    cpu, wall = time.process_time(), time.perf_counter()
    if is_remote(place):
        next(object_store("").pages(location(place), most=1))
    start = time.process_time() - cpu
    manifest = list_images(open_source(place), settings).frame
    with compute_features(manifest, settings, model, store, key) as made:
        for table in made.staged.values():
            table.publish()
        made.finish()
    told: dict[str, Any] = {"CPU": time.process_time() - cpu, "wall": time.perf_counter() - wall, "start": start}
    schemas = [EMBEDDINGS.with_embedding_width(model.width), IMG_STATS]
    return told | {"digests": [table_digest(schema, store.read(schema.name, key)) for schema in schemas]}


def run(place: str, environment: dict[str, str], scratch: Path, threads: int) -> dict[str, Any]:
    """`read` in a fresh process."""
    home = Path(tempfile.mkdtemp(prefix="home_", dir=scratch))
    command = [sys.executable, Path(__file__).resolve(), place, "--read", home / "out", "--threads", str(threads)]
    usage = measured(command, plain_environment(home, **environment), home)
    return {**json.loads(usage.output.splitlines()[-1]), "peak MB": usage.peak_mb}


def in_turns(folder: Path, url: str, scratch: Path, threads: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """`rounds` runs of each, every other round in the reverse order, after one of each that does not count."""
    environment = {**_AWS, "AWS_ENDPOINT_URL": url}
    ways = {"folder": (str(folder), 0.0), "S3": (f"s3://{_BUCKET}", 0.0), "S3, latency": (f"s3://{_BUCKET}", LATENCY)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            place, latency = ways[name]
            urllib.request.urlopen(f"{url}/_latency?{latency}").close()
            told = run(place, environment, scratch, threads)
            if number:
                runs[name].append(told)
                print(f"  {name:12} wall {told['wall']:6.2f} s  CPU {told['CPU']:6.2f} s", flush=True)
    return runs


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = parser_for(
        "Reading from S3 over reading from a folder: client CPU, and wall time under latency.",
        "  python benchmarks/s3.py PHOTOS\n  python benchmarks/s3.py PHOTOS --count 2000 --rounds 5",
    )
    parser.add_argument("folder", help="photos that the JPEGs are made from")
    parser.add_argument("--count", type=int, default=400, help="JPEGs: the photos, then edits of them (400)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each that count (3)")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = arguments()
    if given.serve:
        serve(given.serve)
        return
    if given.read:
        print(json.dumps(read(given.folder, given.read, given.threads)))
        return
    with tempfile.TemporaryDirectory(prefix="s3_") as name, server() as url:
        scratch = Path(name)
        folder = scratch / "jpegs"
        make_jpegs(images_in(Path(given.folder)), folder, given.count)
        header = say_header([Inputs("JPEGs", folder, images_in(folder)).describe(given.list_inputs)], SEED)
        upload(folder, url)
        runs = in_turns(folder, url, scratch, given.threads, given.rounds)
    figures = {way: {name: median(run[name] for run in found) for name in _FIGURES} for way, found in runs.items()}
    say_table(
        ["", "CPU, s", "of it the first request", "wall, s", "peak MB"],
        [[way, *found.values()] for way, found in figures.items()],
    )
    same = len({json.dumps(run["digests"]) for found in runs.values() for run in found}) == 1
    cpu = figures["S3"]["CPU"] / figures["folder"]["CPU"]
    less_start = (figures["S3"]["CPU"] - figures["S3"]["start"]) / figures["folder"]["CPU"]
    wall = figures["S3, latency"]["wall"] / figures["S3"]["wall"]
    print(f"\ntables of all runs are the same: {'holds' if same else 'MISSED'}")
    print(judged("client CPU, S3 over folder", cpu, WANTED_CPU, at_least=False))
    print(judged("client CPU less that first request", less_start, WANTED_CPU, at_least=False))
    print(judged(f"wall, {LATENCY * 1000:.0f} ms of latency over none", wall, WANTED_WALL, at_least=False))
    write_json(given.json, header | {"runs": runs, "figures": figures, "cpu": cpu, "wall": wall, "same": same})


if __name__ == "__main__":
    main()
