"""The Parquet IO manager: every input type, and publishing whole or not at all."""

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from fastdup_dagster.assets.partitions import DATASETS, SPLITS, SplitsOfDataset, add_partitions
from fastdup_dagster.datasets import DatasetEntry, register
from fastdup_dagster.resources.datasets import DatasetsResource
from fastdup_dagster.resources.io_manager import ParquetIOManager
from fastdup_dagster.resources.store import StoreResource
from fastdup_dagster.schemas import KNN_GRAPH
from fastdup_dagster.storage import TableStore

GRAPH = KNN_GRAPH.frame({"from": [0, 1], "to": [1, 0], "rank": [1, 1], "distance": [0.5, 0.5]})
SEEN: dict[str, object] = {}


@dg.asset(partitions_def=SPLITS)
def knn_graph(context: dg.AssetExecutionContext) -> pl.DataFrame:
    if context.partition_key.endswith("bad"):
        raise ValueError("no graph")
    return GRAPH


def reader(kind: object, name: str):
    @dg.asset(name=name, partitions_def=SPLITS, io_manager_key="memory")
    def read(knn_graph: kind) -> int:  # type: ignore[valid-type]
        SEEN[name] = knn_graph
        return 1

    return read


def gatherer(kind: object, name: str, optional: bool):
    given = dg.AssetIn(partition_mapping=SplitsOfDataset(), metadata={"allow_missing_partitions": optional})

    @dg.asset(name=name, partitions_def=DATASETS, ins={"knn_graph": given}, io_manager_key="memory")
    def gather(knn_graph: kind) -> int:  # type: ignore[valid-type]
        SEEN[name] = knn_graph
        return 1

    return gather


@pytest.fixture
def store(home) -> TableStore:
    return TableStore(home / "store")


@pytest.fixture
def run(home):
    SEEN.clear()
    register("cats", DatasetEntry(root="/nowhere", splits={"one": ".", "two": ".", "bad": "."}))
    register("dogs", DatasetEntry(root="/nowhere", splits={"one": "."}))
    manager = ParquetIOManager(store=StoreResource(datasets=DatasetsResource()))
    with dg.DagsterInstance.ephemeral() as instance:
        add_partitions(instance, "cats", ["one", "two", "bad"])
        add_partitions(instance, "dogs", ["one"])

        def materialize(asset: dg.AssetsDefinition, partition: str, **options: object) -> dg.ExecuteInProcessResult:
            return dg.materialize(
                [asset, knn_graph],
                selection=[asset],
                partition_key=partition,
                instance=instance,
                resources={"io_manager": manager, "memory": dg.mem_io_manager},
                **options,  # type: ignore[arg-type]
            )

        yield materialize


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, pa.Table])
def test_an_input_takes_the_annotated_type(run, kind):
    run(knn_graph, "cats/one")
    run(reader(kind, "one"), "cats/one")
    assert isinstance(SEEN["one"], kind)
    whole = SEEN["one"].lazy().collect() if kind is not pa.Table else pl.DataFrame(SEEN["one"])
    assert whole.equals(GRAPH)


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame])
def test_a_dict_holds_each_partition_of_the_data_set(run, kind):
    for key in ("cats/one", "cats/two", "dogs/one"):
        run(knn_graph, key)
    run(gatherer(dict[str, kind], "all", optional=True), "cats")
    assert set(SEEN["all"]) == {"cats/one", "cats/two"}
    assert all(isinstance(frame, kind) for frame in SEEN["all"].values())


def test_a_dict_of_exactly_one_partition_is_still_a_dict(run):
    run(knn_graph, "dogs/one")
    run(gatherer(dict[str, pl.DataFrame], "all", optional=True), "dogs")
    assert set(SEEN["all"]) == {"dogs/one"}


def test_partitions_that_are_missing_are_left_out_only_where_that_is_allowed(run):
    run(knn_graph, "cats/one")
    run(gatherer(dict[str, pl.DataFrame], "some", optional=True), "cats")
    assert set(SEEN["some"]) == {"cats/one"}
    with pytest.raises(FileNotFoundError, match=r"'knn_graph' of 'cats/bad'"):
        run(gatherer(dict[str, pl.DataFrame], "every", optional=False), "cats")


def test_several_partitions_need_a_dict(run):
    run(knn_graph, "cats/one")
    with pytest.raises(TypeError, match="annotate it as a dict"):
        run(gatherer(pl.DataFrame, "wrong", optional=True), "cats")


def test_an_output_is_published_with_its_place_as_metadata(run, store):
    result = run(knn_graph, "cats/one")
    [event] = result.get_asset_materialization_events()
    path = event.step_materialization_data.materialization.metadata["dagster/uri"].value
    assert path == str(store.path("knn_graph", "cats/one"))
    assert pl.read_parquet(path).equals(GRAPH)


def test_a_failed_asset_leaves_nothing(run, store):
    assert not run(knn_graph, "cats/bad", raise_on_error=False).success
    assert not store.exists("knn_graph", "cats/bad")


def test_a_failed_write_leaves_the_old_table_and_no_rest(run, store):
    run(knn_graph, "cats/one")
    before = store.path("knn_graph", "cats/one").read_bytes()

    @dg.asset(name="knn_graph", partitions_def=SPLITS)
    def half() -> pl.DataFrame:
        return GRAPH.drop("distance")

    with dg.DagsterInstance.ephemeral() as instance:
        add_partitions(instance, "cats", ["one"])
        manager = ParquetIOManager(store=StoreResource(datasets=DatasetsResource()))
        result = dg.materialize(
            [half], partition_key="cats/one", instance=instance, resources={"io_manager": manager}, raise_on_error=False
        )
    assert not result.success
    assert store.path("knn_graph", "cats/one").read_bytes() == before
    assert not [path for path in (store.root / "_staging").rglob("*") if path.is_file()]


@pytest.mark.parametrize("staged", [True, False])
def test_a_staged_table_is_renamed_into_place(run, store, staged):
    @dg.asset(name="knn_graph", partitions_def=SPLITS, dagster_type=dg.Any)
    def made():
        if not staged:
            return "a text"
        table = store.stage(KNN_GRAPH, "cats/one")
        table.write(GRAPH)
        table.close()
        return table

    manager = ParquetIOManager(store=StoreResource(datasets=DatasetsResource()))
    with dg.DagsterInstance.ephemeral() as instance:
        add_partitions(instance, "cats", ["one"])
        result = dg.materialize(
            [made], partition_key="cats/one", instance=instance, resources={"io_manager": manager}, raise_on_error=False
        )
    assert result.success is staged
    assert store.exists("knn_graph", "cats/one") is staged
    assert not [path for path in (store.root / "_staging").rglob("*") if path.is_file()]
