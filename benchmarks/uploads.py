"""Uploads while a daemon runs: photos go into a bucket from another process, and all that is made of them is counted.

`fastdup-dagster dev` watches the bucket; a second process uploads splits into it, each with a marker at its end, then
adds photos to the first one, and uploads the marker anew. What must come out: every asset of every split once per
change, and nothing else; every table whole in the bucket, with every gallery and report. With `--faults`, a proxy
answers a tenth of all requests of the analysis with 503 or 500, resets the connection, or cuts the body off; the tables
must be those of a run without it.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from common import images_in, parser_for, say_header, say_table, write_json
from edits import SEED, make_jpegs
from s3 import _AWS, server

_BUCKET, _NAME = "uploads", "photos"
_SPLITS = {"train": 0.7, "val": 0.15, "test": 0.15}
_ADDED = 20


def upload(folder: Path, splits: Sequence[str]) -> None:
    """Uploads folders into the bucket, the marker of each last."""
    import boto3

    client = boto3.client("s3")
    for split in splits:
        for path in images_in(folder / split):
            client.upload_file(str(path), _BUCKET, f"in/{split.partition('-')[0]}/{path.name}")
        client.put_object(Bucket=_BUCKET, Key=f"in/{split.partition('-')[0]}/_SUCCESS", Body=b"")
        print(f"  {time.strftime('%H:%M:%S')} uploaded {split}", flush=True)


def upload_from_another_process(folder: Path, splits: Sequence[str]) -> None:
    """`upload`, in a process of its own."""
    subprocess.run([sys.executable, __file__, str(folder), "--upload", *splits], check=True)


@contextmanager
def dev(home: Path, endpoint: str, launch: str) -> Iterator[None]:
    """`fastdup-dagster dev` in this home, its sensors on."""
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "AWS_ENDPOINT_URL": endpoint,
        "FASTDUP_SENSORS": "on",
        "FASTDUP_UPLOADS_LAUNCH": launch,
        "FASTDUP_UPLOADS_SECONDS": "5",
    }
    ports = [str(port) for port in free_ports(2)]
    command = [
        str(Path(sys.executable).with_name("fastdup-dagster")),
        "dev",
        "--port",
        ports[0],
        "--pages-port",
        ports[1],
    ]
    with (home / "dev.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(180)  # at its own limits it takes a minute


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def made(instance: Any) -> Counter[tuple[str, str]]:
    """How often each asset of each partition was materialised."""
    counted: Counter[tuple[str, str]] = Counter()
    for key in instance.get_asset_keys():
        for record in instance.fetch_materializations(key, limit=1000).records:
            counted[str(record.partition_key), key.to_user_string()] += 1
    return counted


def wait_until(instance: Any, wanted: dict[tuple[str, str], int], patience: float) -> Counter[tuple[str, str]]:
    """Waits until so much was made and nothing runs; returns what was made, which may be less in the end."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = made(instance)
        if all(found[what] >= times for what, times in wanted.items()) and all(
            r.is_finished for r in instance.get_runs()
        ):
            return found
        time.sleep(2)
    return made(instance)


def wanted_of(splits: dict[str, int], with_leakage: int) -> dict[tuple[str, str], int]:
    """How often each asset is to be made, for uploads per split."""
    from fastdup_dagster.assets.jobs import SPLIT_ASSETS

    found = {(f"{_NAME}/{split}", asset): times for split, times in splits.items() for asset in SPLIT_ASSETS}
    return found | ({(_NAME, "split_leakage"): with_leakage} if with_leakage else {})


def what_is_wrong(photos: dict[str, int], leakage: bool) -> list[str]:
    """What a bucket lacks that holds the results of so many photos per split: tables, rows, galleries, reports."""
    from fastdup_dagster.assets.jobs import SPLIT_ASSETS
    from fastdup_dagster.storage import open_store

    store = open_store(f"s3://{_BUCKET}/out")
    wrong = [] if not leakage or store.exists("split_leakage", _NAME) else ["no table split_leakage"]
    for split, count in photos.items():
        key = f"{_NAME}/{split}"
        missing = [table for table in SPLIT_ASSETS if not store.exists(table, key)]
        if missing:
            wrong.append(f"{key}: no table {', '.join(missing)}")
            continue
        for table in ("image_manifest", "embeddings", "img_stats"):
            errors = store.read(table, key, ["error_code"])["error_code"]
            if len(errors) != count or errors.null_count() != count:
                wrong.append(f"{key}: {table} has {len(errors)} rows, {errors.null_count()} without error, not {count}")
        galleries = store.read("galleries", key)
        pages = [str(uri).rpartition("/")[2] for uri in galleries["uri"]]
        for page in {*pages, "report.html"}:
            if not _is_page(store.page_bytes(f"{key}/{page}")):
                wrong.append(f"{key}: {page} is no whole page")
        if "duplicates.html" not in pages:
            wrong.append(f"{key}: no gallery of duplicates among {', '.join(pages)}")
        elif b"data:image/jpeg;base64," not in store.page_bytes(f"{key}/duplicates.html"):
            wrong.append(f"{key}: the gallery of duplicates shows no photo")
    return wrong


def _is_page(html: bytes) -> bool:
    return html.lstrip().lower().startswith(b"<!doctype html>") and html.rstrip().endswith(b"</html>")


def digests() -> dict[str, str]:
    """`table_digest` of every published table."""
    from fastdup_dagster.schemas import TABLES
    from fastdup_dagster.storage import open_store, table_digest

    store = open_store(f"s3://{_BUCKET}/out")
    keys = [_NAME, *(f"{_NAME}/{split}" for split in _SPLITS)]
    return {
        f"{table} {key}": table_digest(schema, store.read(table, key))
        for table, schema in TABLES.items()
        for key in keys
        if store.exists(table, key)
    }


def scenario(folder: Path, home: Path, given: argparse.Namespace, faults: float) -> dict[str, Any]:
    """Uploads while the daemon runs, against a new server; what came out."""
    import boto3
    import dagster as dg

    from fastdup_dagster.datasets import DatasetEntry, register
    from fastdup_dagster.home import ensure_home

    with ExitStack() as stack:
        url = stack.enter_context(server())
        os.environ.update(_AWS, AWS_ENDPOINT_URL=url, DAGSTER_HOME=str(home))
        boto3.client("s3").create_bucket(Bucket=_BUCKET)
        ensure_home()
        register(_NAME, DatasetEntry(root=f"s3://{_BUCKET}/in", splits={"train": "train"}, store=f"s3://{_BUCKET}/out"))
        endpoint, proxy = url, None
        if faults:
            sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
            from faulty_proxy import faulty_proxy

            proxy = stack.enter_context(faulty_proxy(url, share=faults))
            endpoint = proxy.url
        instance = stack.enter_context(dg.DagsterInstance.get())
        stack.enter_context(dev(home, endpoint, given.launch))
        begun = time.perf_counter()
        leakage = given.launch == "image_manifest"
        upload_from_another_process(folder, list(_SPLITS))
        first = wait_until(instance, wanted_of(dict.fromkeys(_SPLITS, 1), int(leakage)), given.patience)
        print(f"  {time.strftime('%H:%M:%S')} analysed after {time.perf_counter() - begun:.0f} s", flush=True)
        upload_from_another_process(folder, ["train-more"])
        wanted = wanted_of({"train": 2, "val": 1, "test": 1}, 2 * int(leakage))
        last = wait_until(instance, wanted, given.patience)
        time.sleep(15)  # looks that must find nothing
        last = made(instance)
        runs = Counter(run.status.value for run in instance.get_runs())
        objects = (
            boto3.client("s3", endpoint_url=url)
            .get_paginator("list_objects_v2")
            .paginate(Bucket=_BUCKET, Prefix="out/")
        )
        found = [item["Key"] for page in objects for item in page.get("Contents", ())]
        os.environ["AWS_ENDPOINT_URL"] = url
        photos = {split: len(images_in(folder / split)) for split in _SPLITS}
        photos["train"] += len(images_in(folder / "train-more"))
        return {
            "made": {f"{partition} {asset}": times for (partition, asset), times in sorted(last.items())},
            "first": sum(first.values()),
            "surplus": {str(what): last[what] for what in {*last, *wanted} if last[what] != wanted.get(what, 0)},
            "in the bucket": what_is_wrong(photos, leakage),
            "runs": dict(runs),
            "tables": sum(key.endswith(".parquet") for key in found),
            "pages": sum(key.endswith(".html") for key in found),
            "faults": None if proxy is None else dict(proxy.counts),
            "digests": digests(),
            "seconds": time.perf_counter() - begun,
        }


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = parser_for(
        "Uploads while a daemon runs: each asset once per change.",
        "  python benchmarks/uploads.py PHOTOS\n  python benchmarks/uploads.py PHOTOS --count 200 --faults 0.1",
    )
    parser.add_argument("folder", type=Path, help="photos that the JPEGs are made from")
    parser.add_argument("--count", type=int, default=2000, help="photos to upload (2000)")
    parser.add_argument("--faults", type=float, default=0.0, help="the same once more, with so many requests failing")
    parser.add_argument(
        "--launch", choices=("split", "image_manifest"), default="split", help="what the sensor launches"
    )
    parser.add_argument("--patience", type=float, default=1800, help="seconds to wait for what was uploaded (1800)")
    parser.add_argument("--upload", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_splits(photos: Path, folder: Path, count: int) -> None:
    """JPEGs in `train`, `val`, `test`, of different photos each, and a few more for train."""
    found, begun = images_in(photos), 0
    for split, share in _SPLITS.items():
        some = found[begun : begun + max(1, int(len(found) * share * 0.98))]
        make_jpegs(some, folder / split, round(count * share))
        begun += len(some)
    make_jpegs(found[begun:], folder / "train-more", _ADDED)
    for path in (folder / "train-more").iterdir():
        path.rename(path.with_name(f"more-{path.name}"))


def main() -> None:
    """Upload, wait, count, print."""
    given = arguments()
    if given.upload:
        upload(given.folder, given.upload)
        return
    results = {}
    with tempfile.TemporaryDirectory(prefix="uploads_") as name:
        folder = Path(name) / "jpegs"
        make_splits(given.folder, folder, given.count)
        header = say_header([f"JPEGs: {len(images_in(folder)):,} made from photos"], SEED)
        for faults in sorted({0.0, given.faults}):
            home = Path(name) / f"home-{faults}"
            home.mkdir()
            results[faults] = scenario(folder, home, given, faults)
    say_table(
        ["requests that fail", "materialisations", "not as often as wanted", "tables", "pages", "runs", "seconds"],
        [
            [
                f"{faults:.0%}",
                sum(r["made"].values()),
                len(r["surplus"]),
                r["tables"],
                r["pages"],
                str(r["runs"]),
                r["seconds"],
            ]
            for faults, r in results.items()
        ],
    )
    for faults, result in results.items():
        print(f"\n{faults:.0%} faults")
        for name, wrong in {
            "each asset once per change, and nothing else": result["surplus"],
            "every run ended well": {status for status in result["runs"] if status != "SUCCESS"},
            "tables, galleries and reports of all photos are in the bucket": result["in the bucket"],
        }.items():
            print(f"{name}: {f'MISSED {wrong}' if wrong else 'holds'}")
        if result["faults"]:
            print(f"answers of the proxy: {result['faults']}")
    same = len({str(result["digests"]) for result in results.values()}) == 1
    if len(results) > 1:
        print(f"\ntables of equal digests with faults and without: {'holds' if same else 'MISSED'}")
    write_json(
        given.json, header | {"results": {str(faults): result for faults, result in results.items()}, "same": same}
    )


if __name__ == "__main__":
    main()
