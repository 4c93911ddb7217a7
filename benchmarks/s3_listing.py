"""What listing a bucket costs: the table `image_manifest` of many keys, and the same with answers read by botocore.

Fresh processes in turns. The server gives answers that it writes from numbers, in a process of its own: the CPU time is
the client's alone, without its start. Memory is what the table takes, and what the process grew by beyond it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlsplit

from common import judged, parser_for, say_header, say_table, write_json
from processes import MEGABYTE, measured, plain_environment

WANTED_CPU = 3.0
_PAGE = 1000
_WAYS = ("here", "botocore")
_FIGURES = ("CPU", "wall", "table MB", "beyond MB")
_AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def answer(first: int, keys: int) -> bytes:
    """The page of a listing that begins with this number."""
    last = min(keys, first + _PAGE)
    more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < keys else ""
    contents = (
        f"<Contents><Key>photos/{number // 1000:05}/{number:09}.jpg</Key>"
        f"<LastModified>2026-01-{1 + number % 28:02}T10:{number % 60:02}:11.000Z</LastModified>"
        f"<ETag>&quot;{number * 2654435761:032x}&quot;</ETag><Size>{20000 + number % 9999}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(first, last)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>benchmark</Name><Prefix></Prefix>{more}<KeyCount>{last - first}</KeyCount><MaxKeys>{_PAGE}</MaxKeys>"
        f"<EncodingType>url</EncodingType><IsTruncated>{'true' if more else 'false'}</IsTruncated>{''.join(contents)}"
        "</ListBucketResult>"
    ).encode()


def serve(keys: int) -> None:
    """Answers `ListObjectsV2`; the first line of the output is the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            token = parse_qs(urlsplit(self.path).query).get("continuation-token", ["0"])[0]
            body = answer(int(token), keys)
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


@contextmanager
def server(keys: int) -> Iterator[str]:
    """The server in a process of its own; its URL."""
    command = [sys.executable, __file__, "--keys", str(keys), "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def read_by_botocore() -> None:
    """Lets botocore's client ask, and read the answers."""
    from fastdup_dagster.sources.listing import Listed, ListingPage
    from fastdup_dagster.sources.object_store import ObjectStore

    def page(store: Any, folder: Any, delimiter: str = "", most: int = 1000, token: str | None = None) -> ListingPage:
        given = {"ContinuationToken": token} if token else {}
        found = store.client(folder.bucket).list_objects_v2(
            Bucket=folder.bucket, Prefix=folder.key, MaxKeys=most, **given
        )
        objects = [Listed(o["Key"], o["Size"], o["LastModified"], o["ETag"]) for o in found.get("Contents", ())]
        return ListingPage(objects, [], found.get("NextContinuationToken"))

    ObjectStore.page = page  # type: ignore[method-assign, assignment]


def read(way: str) -> dict[str, Any]:
    """Lists the bucket into a table, in this process."""
    from fastdup_dagster.schemas import IMAGE_MANIFEST
    from fastdup_dagster.settings import Settings
    from fastdup_dagster.sources import open_source
    from fastdup_dagster.sources.locations import location
    from fastdup_dagster.sources.object_store import object_store
    from fastdup_dagster.stages.image_manifest import list_all
    from fastdup_dagster.storage import table_digest

    if way == "botocore":
        read_by_botocore()
    object_store("").page(location("s3://benchmark"), most=1)
    before = _peak_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    frame = list_all(open_source("s3://benchmark"), Settings()).frame
    told = {"CPU": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    grown = _peak_mb() - before
    table = frame.to_arrow().nbytes / MEGABYTE
    digest = table_digest(IMAGE_MANIFEST, frame)
    return told | {"table MB": table, "beyond MB": grown - table, "digest": digest, "rows": len(frame)}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = parser_for(
        "Listing a bucket, over the same with answers read by botocore: client CPU and memory.",
        "  python benchmarks/s3_listing.py\n  python benchmarks/s3_listing.py --keys 1000000 --rounds 1",
    )
    parser.add_argument("--keys", type=int, default=100_000, help="objects in the bucket (100,000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--read", choices=_WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = arguments()
    if given.serve:
        serve(given.keys)
        return
    if given.read:
        print(json.dumps(read(given.read)))
        return
    header = say_header([f"{given.keys:,} keys in pages of {_PAGE:,}"])
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in _WAYS}
    with tempfile.TemporaryDirectory(prefix="s3_listing_") as name, server(given.keys) as url:
        environment = plain_environment(Path(name), **_AWS, AWS_ENDPOINT_URL=url, PYTHONPATH=os.pathsep.join(sys.path))
        for number in range(given.rounds):
            for way in _WAYS[:: 1 if number % 2 else -1]:
                command = [sys.executable, Path(__file__).resolve(), "--read", way]
                runs[way].append(json.loads(measured(command, environment, Path(name)).output))
    figures = {way: {name: median(run[name] for run in found) for name in _FIGURES} for way, found in runs.items()}
    say_table(
        ["answers read by", "CPU, s", "wall, s", "table, MB", "beyond it, MB"],
        [[way, *found.values()] for way, found in figures.items()],
    )
    same = len({(run["digest"], run["rows"]) for found in runs.values() for run in found}) == 1
    cpu = figures["botocore"]["CPU"] / figures["here"]["CPU"]
    print(f"\ntables of all runs are the same: {'holds' if same else 'MISSED'}")
    print(judged("client CPU, botocore over here", cpu, WANTED_CPU))
    write_json(given.json, header | {"runs": runs, "figures": figures, "cpu": cpu, "same": same})


if __name__ == "__main__":
    main()
