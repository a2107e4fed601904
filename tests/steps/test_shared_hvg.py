import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_chunk import step


@pytest.fixture(name="lists")
def _lists(tmp_path):
    """Lists of three samples in two chunks."""
    lists = {"s": ["b", "a", "d"], "t": ["a", "b", "c"], "u": ["c", "e"]}
    for name, samples in (("one", ["s", "t"]), ("two", ["u"])):
        rows = [(sample, gene, rank) for sample in samples for rank, gene in enumerate(lists[sample])]
        sample, gene, rank = zip(*rows, strict=True)
        table = {"sample": sample, "feature_id": gene, "score": [1.0] * len(rank), "rank": pa.array(rank, pa.int32())}
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    return [tmp_path / "one.parquet", tmp_path / "two.parquet"]


def shared(lists, out, *options):
    assert step("shared_hvg", "--hvg", lists, "--out", out, *options) == 0
    return pq.read_table(out).to_pydict()


def test_median_rank_then_number_of_samples_then_id(lists, tmp_path):
    # a and b: ranks 0, 1; c: 2, 0 (median 1); e: 1; d: 2
    assert shared(lists, tmp_path / "s.parquet") == {
        "feature_id": ["a", "b", "c", "e", "d"],
        "median_rank": [0.5, 0.5, 1.0, 1.0, 2.0],
        "n_samples": [2, 2, 2, 1, 1],
        "rank": [0, 1, 2, 3, 4],
    }


def test_no_more_than_asked_for_and_in_any_order_of_chunks(lists, tmp_path):
    found = shared(lists, tmp_path / "s.parquet", "--hvg-n-top", 3)
    assert found["feature_id"] == ["a", "b", "c"]
    shared(lists[::-1], tmp_path / "t.parquet", "--hvg-n-top", 3)
    assert (tmp_path / "s.parquet").read_bytes() == (tmp_path / "t.parquet").read_bytes()


def test_the_papers_flavor_puts_the_number_of_samples_first(lists, tmp_path):
    pq.write_table(pq.read_table(lists[1]).slice(1).set_column(3, "rank", pa.array([0], pa.int32())), lists[1])
    found = shared(lists, tmp_path / "s.parquet", "--hvg-flavor", "seurat_v3_paper")
    assert found["feature_id"] == ["a", "b", "e", "c", "d"]
    assert shared(lists, tmp_path / "s.parquet")["feature_id"][0] == "e"


def test_no_gene_at_all_is_an_error(lists, tmp_path, capfd):
    pq.write_table(pq.read_table(lists[0]).slice(0, 0), lists[0])
    assert step("shared_hvg", "--hvg", lists[:1], "--out", tmp_path / "s.parquet") == 2
    assert "filter.min_genes_per_cell" in capfd.readouterr().err
