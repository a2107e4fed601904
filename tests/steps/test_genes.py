import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_chunk import step


@pytest.fixture(name="counts")
def _counts(tmp_path):
    """Counts of two chunks with different genes."""
    one = {"feature_id": ["c", "a", "b"], "feature_name": ["C", "A", "B"], "total": [2, 5, 9], "n_cells": [1, 2, 3]}
    two = {"feature_id": ["d", "c", "a"], "feature_name": ["D", "C", "A"], "total": [2, 1, 0], "n_cells": [2, 1, 0]}
    for name, columns in (("one", one), ("two", two)):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    return [tmp_path / "one.parquet", tmp_path / "two.parquet"]


def genes(counts, out, least=3):
    assert step("genes", "--counts", counts, "--filter-min-counts-per-gene", least, "--out", out) == 0
    return pq.read_table(out)


def test_genes_that_reach_the_threshold_over_all_chunks_sorted(counts, tmp_path):
    table = genes(counts, tmp_path / "genes.parquet").to_pydict()
    assert table == {
        "feature_id": ["a", "b", "c"],
        "feature_name": ["A", "B", "C"],
        "total": [5, 9, 3],
        "n_cells": [2, 3, 2],
    }


def test_order_of_chunks_and_genes_changes_no_byte(counts, tmp_path):
    genes(counts, tmp_path / "one.out")
    pq.write_table(pq.read_table(counts[0]).take([2, 0, 1]), counts[0])
    genes(counts[::-1], tmp_path / "two.out")
    assert (tmp_path / "one.out").read_bytes() == (tmp_path / "two.out").read_bytes()


def test_no_gene_left_names_the_key(counts, tmp_path, capfd):
    options = ("--filter-min-counts-per-gene", 10, "--out", tmp_path / "genes.parquet")
    assert step("genes", "--counts", counts, *options) == 2
    message = capfd.readouterr().err
    assert "filter.min_counts_per_gene" in message
    assert "9" in message


def test_damaged_counts_are_named(counts, tmp_path, capfd):
    counts[1].write_bytes(counts[1].read_bytes()[:-20])
    assert step("genes", "--counts", counts, "--out", tmp_path / "genes.parquet") == 2
    assert "two.parquet is damaged" in capfd.readouterr().err


def test_a_table_without_the_columns_is_named(counts, tmp_path, capfd):
    pq.write_table(pq.read_table(counts[0]).drop(["total"]), counts[0])
    assert step("genes", "--counts", counts, "--out", tmp_path / "genes.parquet") == 2
    assert "one.parquet has no column total" in capfd.readouterr().err


def test_of_real_chunks(data):
    tables = [pq.read_table(path).to_pandas() for path in data["counts"]]
    total = pd.concat(tables).groupby("feature_id")["total"].sum()
    assert data.genes_table["feature_id"].tolist() == sorted(total.index[total >= 3])
    assert data.genes_table["total"].tolist() == total[data.genes_table["feature_id"]].tolist()


def test_the_list_alone_does_not_change_with_the_totals(counts, tmp_path):
    lists = [tmp_path / f"{name}.list" for name in ("one", "two")]
    for path, more in zip(lists, (0, 7), strict=True):
        table = pq.read_table(counts[0])
        totals = [total + more for total in table["total"].to_pylist()]
        pq.write_table(table.set_column(2, "total", pa.array(totals)), tmp_path / "counts.parquet")
        words = ["--counts", [tmp_path / "counts.parquet"], "--filter-min-counts-per-gene", 2, "--out-list", path]
        assert step("genes", *words, "--out", tmp_path / "genes.parquet") == 0
    assert lists[0].read_bytes() == lists[1].read_bytes()
    assert pq.read_table(lists[0]).to_pydict() == {"feature_id": ["a", "b", "c"], "feature_name": ["A", "B", "C"]}
