"""select: whole samples, chunk lists, and a record of where the cells come from."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import small_census
from small_census import STRANGE, select_options

from censusformer.cli import main
from censusformer.hashing import cell_keys


@pytest.fixture(scope="module")
def soma(tmp_path_factory):
    """A small census."""
    return small_census.write(tmp_path_factory.mktemp("somas") / "small")


def select(out, soma, *more):
    """Run select; its lists by chunk, samples and provenance."""
    assert main(select_options(out, "--census-uri", soma, *more)) == 0
    lists = {path.stem: pq.read_table(path) for path in (out / "chunks").glob("*.parquet")}
    return lists, pq.read_table(out / "samples.parquet").to_pandas(), json.loads((out / "provenance.json").read_text())


def failing(out, soma, capsys, *more):
    """The message of a select that must fail, and leave nothing."""
    assert main(select_options(out, "--census-uri", soma, *more)) == 2
    assert not list(out.rglob("*"))
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_lists_hold_whole_samples(tmp_path, soma):
    lists, samples, _ = select(tmp_path, soma, "--name", "mine")
    listed = {}
    for name, table in lists.items():
        assert re.fullmatch(r"mine-[0-9a-f]{12}", name)
        source = json.loads(table.schema.metadata[b"census"])
        assert source == {"name": "mine", "organism": "homo_sapiens", "uri": soma}
        frame = table.to_pandas()
        assert frame["status"].nunique() == 1
        assert np.array_equal(frame["cell"], cell_keys(frame["dataset_id"], frame["observation_joinid"]))
        for sample, rows in frame.groupby("sample"):
            assert sample not in listed
            listed[sample] = (len(rows), rows["status"].iloc[0])
    chosen = samples[samples["status"] != "out"]
    assert listed == dict(zip(chosen["sample"], zip(chosen["n_cells"], chosen["status"], strict=True), strict=True))
    assert sum(n_cells for n_cells, _ in listed.values()) <= 900


def test_samples_have_their_fate(tmp_path, soma):
    _, samples, _ = select(tmp_path, soma)
    assert samples["order"].tolist() == list(range(12))
    assert set(samples["status"]) == {"train", "test", "out"}
    reasons = dict(zip(samples["sample"], samples["reason"], strict=True))
    assert reasons["alpha:unknown"].startswith("the donor is not known")
    assert reasons["alpha:tiny"] == "fewer than 50 cells"
    persons = dict(zip(samples["sample"], samples["person"], strict=True))
    assert persons["alpha:d1"] == persons["beta:d1"] == "C1:d1"
    assert persons["gamma:d1"] == "C2:d1"
    assert samples["n_cells"].sum() == 1162  # of 1,290, without the copies


def test_the_same_input_gives_the_same_bytes(tmp_path, soma):
    for out in ("a", "b"):
        select(tmp_path / out, soma)
    files = [sorted(path for path in (tmp_path / out).rglob("*") if path.is_file()) for out in ("a", "b")]
    assert [path.relative_to(tmp_path / "a") for path in files[0]] == [p.relative_to(tmp_path / "b") for p in files[1]]
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_larger_cap_keeps_every_chunk_but_one(tmp_path, soma):
    small = select(tmp_path, soma, "--census-max-cells", "600")[0]
    large = select(tmp_path, soma, "--census-max-cells", "1000")[0]  # over the same folder: the old lists are gone
    kept = set(small) & set(large)
    assert len(small) - len(kept) <= 1
    assert len(large) > len(small)
    tests = [
        {name for name, table in lists.items() if table["status"][0].as_py() == "test"} for lists in (small, large)
    ]
    assert tests[0] == tests[1] != set()


def test_names_change_with_the_counts_and_the_organism_only(tmp_path, soma):
    name = set(select(tmp_path / "a", soma)[0])
    again = small_census.write(tmp_path / "again" / "small")
    assert set(select(tmp_path / "b", again)[0]) == name
    other = small_census.write(tmp_path / "other" / "small", fraction_in="beta")
    changed = select(tmp_path / "c", other)[0]
    for chunk, table in changed.items():
        assert (chunk in name) == ("beta" not in table["dataset_id"].to_pylist())


def test_a_donors_name_is_data_never_a_path(tmp_path, soma):
    lists, samples, _ = select(tmp_path, soma, "--census-max-cells", "2000")
    assert f"alpha:{STRANGE}" in set(samples[samples["status"] != "out"]["sample"])
    assert any(STRANGE in table["donor_id"].to_pylist() for table in lists.values())
    top = {path.name for path in Path(tmp_path).iterdir()}
    assert top == {"chunks", "samples.parquet", "provenance.json"}


def test_known_persons_stay_on_one_side(tmp_path):
    soma = small_census.write(tmp_path / "small", persons=True)
    options = ["--census-test-datasets", "beta", "--census-max-cells", "5000"]
    _, samples, _ = select(tmp_path / "out", soma, *options)
    fate = samples.set_index("sample")
    assert set(fate[fate["dataset_id"] == "beta"]["status"]) == {"test"}
    assert fate.loc["alpha:d2", "reason"] == "the person is in the test set"  # beta's e1, says obs.person
    assert fate.loc["alpha:d1", "status"] == "train"  # obs.person says that beta's d1 is somebody else


def test_donors_without_a_name_are_taken_where_asked_for(tmp_path, soma):
    options = ["--census-max-cells", "5000", "--census-unnamed-donors", "true"]
    fate = select(tmp_path, soma, *options)[1].set_index("sample")
    assert fate.loc["alpha:unknown", "status"] in ("train", "test")


def test_provenance_says_where_cells_come_from(tmp_path, soma):
    lists, samples, record = select(tmp_path, soma)
    chosen = samples[samples["status"] != "out"]
    assert record["census"] == {"asked": soma, "uri": soma, "version": None}
    assert record["cells"]["census"] == 1290
    assert record["cells"]["filter"] == 1162
    assert record["cells"]["chosen"] == chosen["n_cells"].sum()
    assert record["settings"]["census.filter"] == "is_primary_data == True"
    assert {entry["dataset_id"] for entry in record["datasets"]} == set(chosen["dataset_id"])
    assert all(entry["citation"] == "X" for entry in record["datasets"])
    assert sorted(lists) == sorted(record["chunks"]["train"] + record["chunks"]["test"])
    assert record["census_summary"]["census_schema_version"]
    assert set(record["software"]) == {"cellxgene-census", "tiledbsoma"}
    assert sum(reason["samples"] for reason in record["left_out"]) == (samples["status"] == "out").sum()


def test_what_to_expect_is_said_before_anything_is_written(tmp_path, soma, capsys):
    failing(tmp_path, soma, capsys, "--census-filter", "nope == 1")
    select(tmp_path, soma)
    said = capsys.readouterr().err
    assert re.search(r"training: samples \d+, cells \d+", said)
    assert re.search(r"to download: \d+ cells; about \S+ GB on disk and \S+ (hours|min)", said)
    assert "left out, fewer than 50 cells: samples 1, cells 5" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--census-filter", "tissue = 'blood'"], ["census.filter", "tissue_general"]),
        (["--census-filter", "tissue_general == 'blod'"], ["census.filter", "selects no cell"]),
        (["--census-test-cells", "1"], ["census.test_cells"]),
        (["--census-max-cells", "10"], ["census.max_cells"]),
        (["--census-max-cells", "-1"], ["census.max_cells is -1"]),
        (["--chunk-cells", "0"], ["chunk.cells is 0"]),
        (["--census-test-datasets", "delta"], ["census.test_datasets", "delta"]),
        (["--census-organism", "pan_troglodytes"], ["census.organism", "homo_sapiens"]),
    ],
)
def test_wrong_settings_are_named_and_leave_nothing(tmp_path, soma, capsys, options, words):
    message = failing(tmp_path, soma, capsys, *options)
    for word in words:
        assert word in message


def test_a_census_that_is_not_there_is_named(tmp_path, capsys):
    assert "census.uri" in failing(tmp_path, str(tmp_path / "none"), capsys)


def test_a_full_disk_leaves_no_half_folder(tmp_path, soma, monkeypatch, capsys):
    written = []
    write_table = pq.write_table

    def full(table, path, **options):
        if written:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write_table(table, path, **options)

    monkeypatch.setattr(pq, "write_table", full)
    assert main(select_options(tmp_path, "--census-uri", soma)) == 1
    assert not list(tmp_path.rglob("*"))
    assert "No space left" in capsys.readouterr().err
