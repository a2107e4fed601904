"""The step `ingest`, as the workflow calls it."""

import anndata as ad
import cellxgene_census
import numpy as np
import pandas as pd
import pytest

from censusformer.census.real_cells import read_real_cells
from censusformer.cli import main


@pytest.fixture(scope="module")
def h5ad(tmp_path_factory):
    """80 real cells of two donors, by Ensembl id."""
    real = read_real_cells()
    obs = pd.DataFrame(
        {"donor_id": np.array(["d1", "d2"])[np.arange(80) % 2], "tissue": "blood"}, index=real.names[:80]
    )
    file = tmp_path_factory.mktemp("own") / "study.h5ad"
    ad.AnnData(real.counts[:80].astype(np.float32), obs, pd.DataFrame(index=real.feature_id)).write_h5ad(file)
    return file


def test_it_writes_a_census(h5ad, tmp_path):
    out = tmp_path / "own"
    assert main(["ingest", "--h5ad", str(h5ad), "--out", str(out), "--log", str(tmp_path / "log")]) == 0
    with cellxgene_census.open_soma(uri=str(out)) as census:
        obs = cellxgene_census.get_obs(census, "homo_sapiens", value_filter="tissue_general == 'blood'")
    assert len(obs) == 80
    source = ad.read_h5ad(h5ad)
    totals = dict(zip(source.obs_names, np.asarray(source.X.sum(axis=1)).ravel(), strict=True))
    assert dict(zip(obs["observation_joinid"], obs["raw_sum"], strict=True)) == totals
    log = (tmp_path / "log").read_text()
    assert "80 cells" in log
    assert "no obs.tissue_general: tissue stands in" in log


def test_a_census_of_another_organism_stands_under_its_name(h5ad, tmp_path):
    source = ad.read_h5ad(h5ad)
    source.var_names = source.var_names.str.replace("ENSG", "ENSMUSG")
    source.write_h5ad(tmp_path / "mouse.h5ad")
    argv = ["ingest", "--h5ad", str(tmp_path / "mouse.h5ad"), "--out", str(tmp_path / "own")]
    assert main([*argv, "--census-organism", "mus_musculus"]) == 0
    with cellxgene_census.open_soma(uri=str(tmp_path / "own")) as census:
        assert len(cellxgene_census.get_obs(census, "Mus musculus")) == 80


def test_bad_input_ends_in_one_line_and_leaves_what_was_there(h5ad, tmp_path, capsys):
    out = tmp_path / "own"
    assert main(["ingest", "--h5ad", str(h5ad), "--out", str(out)]) == 0
    before = sorted(path.name for path in out.rglob("*"))
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(h5ad.read_bytes()[:5000])
    capsys.readouterr()
    assert main(["ingest", "--h5ad", str(h5ad), str(broken), "--out", str(out)]) == 2
    message = capsys.readouterr().err.strip()
    assert str(broken) in message
    assert "cannot be read as h5ad" in message
    assert "Traceback" not in message
    assert sorted(path.name for path in out.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.h5ad", "own"]


@pytest.mark.blood
def test_a_folder_that_is_no_census_is_never_replaced(tmp_path, blood, capsys):
    out = tmp_path / "precious"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    file = str(blood / "citefuse_eccite.h5ad")
    assert main(["ingest", "--h5ad", file, "--out", str(out)]) == 2
    assert "is no census: give --out a folder of its own" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "mine"
    for _ in range(2):  # a census is replaced by a census
        assert main(["ingest", "--h5ad", file, "--out", str(tmp_path / "census")]) == 0
