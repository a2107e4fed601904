"""One's own files: what is understood, and what is refused with which words. The cells are real ones of celltypist."""

import logging
import re

import anndata as ad
import cellxgene_census
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from censusformer.census.assays import ASSAYS, term_of
from censusformer.census.h5ad import by_ensembl_id, fault_of, gene_ids
from censusformer.census.ingest import read_parts, truth
from censusformer.census.layout import write_census
from censusformer.census.real_cells import read_sample
from censusformer.census.symbols import ids_of, package_file, read_gencode
from censusformer.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Transforming to str index")  # get_anndata's own


@pytest.fixture(scope="session")
def real():
    """60 real cells in the 800 most expressed genes with an Ensembl id: AnnData with symbols as names."""
    names, symbols, counts = read_sample(package_file("celltypist", "data/samples/sample_cell_by_gene.csv"))
    ids = ids_of(symbols, read_gencode())
    total = np.asarray(counts.sum(axis=0)).ravel() * (ids != "")
    top = np.sort(np.argsort(-total, kind="stable")[:800])
    var = pd.DataFrame({"feature_id": ids[top]}, index=symbols[top])
    obs = pd.DataFrame({"donor_id": np.array(["d1", "d2"])[np.arange(60) % 2]}, index=names[:60])
    return ad.AnnData(counts[:60][:, top].astype(np.float32), obs, var)


@pytest.fixture
def cells(real):
    return real.copy()


@pytest.fixture
def save(tmp_path):
    def write(adata, name="mine.h5ad"):
        adata.write_h5ad(tmp_path / name)
        return tmp_path / name

    return write


def with_ids(adata, change=str):
    """Names of genes are Ensembl ids, changed in some way; the symbols stand in a column."""
    adata.var = pd.DataFrame(
        {"feature_name": adata.var_names}, index=[change(name) for name in adata.var["feature_id"]]
    )
    return adata


def expected(adata):
    """Counts by Ensembl id, whatever the names of the genes."""
    return pd.DataFrame(adata.X.toarray(), adata.obs_names, adata.var["feature_id"])


def frame(part):
    return pd.DataFrame(part.counts.toarray(), part.obs["observation_joinid"], part.var["feature_id"])


def same(part, wanted):
    found = frame(part)
    return set(found.columns) == set(wanted.columns) and (found.loc[wanted.index, wanted.columns] == wanted).all(
        axis=None
    )


def refused(files, *words):
    """The files are refused in one message of one line that has the words; returns it."""
    with pytest.raises(InputError) as caught:
        list(read_parts(files if isinstance(files, list) else [files]))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("form", ["symbols", "ids", "versions", "column", "PAR", "half"])
def test_genes_are_known_by_symbol_or_id_with_or_without_version(cells, save, real, form):
    wanted = expected(real)
    if form == "symbols":
        del cells.var["feature_id"]
    elif form == "ids":
        with_ids(cells)
    elif form == "versions":
        with_ids(cells, lambda gene: f"{gene}.12")
    elif form == "PAR":
        with_ids(cells, lambda gene: f"{gene}.3_PAR_Y")
    elif form == "column":
        cells.var = cells.var.rename(columns={"feature_id": "gene_ids"})
    else:  # most names of genes are ids, the rest are tags of antibodies, which are no genes
        with_ids(cells)
        cells.var.index = [f"ADT_{i}" if i % 3 == 0 else name for i, name in enumerate(cells.var_names)]
        wanted = wanted.iloc[:, np.arange(800) % 3 != 0]
    [part] = read_parts([save(cells)])
    assert part.var["feature_id"].is_monotonic_increasing
    assert same(part, wanted)
    if form != "PAR":
        assert dict(zip(part.var["feature_id"], part.var["feature_name"], strict=True))["ENSG00000196154"] == "S100A4"


def test_genes_that_share_an_id_are_summed_and_others_left_out(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("censusformer"), "propagate", True)  # the command line takes it for itself
    var = pd.DataFrame(index=["ENSG00000000001.1", "ENSG00000000002", "ENSG00000000001.2", "spike-in"])
    counts = sparse.csr_matrix([[1, 2, 3, 9], [0, 4, 5, 9]])
    with caplog.at_level("INFO", "censusformer"):
        found, summed = by_ensembl_id("x.h5ad", var, counts, "homo_sapiens", None)
    assert found["feature_id"].tolist() == ["ENSG00000000001", "ENSG00000000002"]
    assert summed.toarray().tolist() == [[4, 2], [5, 4]]
    assert "1 of 4 genes, with 54.5 % of the counts, have no Ensembl id" in caplog.text
    assert "1 genes share" in caplog.text


def test_ids_are_those_of_the_organism():
    var = pd.DataFrame(index=["ENSMUSG00000000001", "ENSMUSG00000000003.5"])
    assert gene_ids(var, "mus_musculus")[0].tolist() == ["ENSMUSG00000000001", "ENSMUSG00000000003"]
    with pytest.raises(InputError, match=r"x\.h5ad: no gene in var is known for homo_sapiens .*ENSMUSG00000000001"):
        by_ensembl_id("x.h5ad", var, sparse.csr_matrix((3, 2)), "homo_sapiens", read_gencode)


@pytest.mark.parametrize("place", ["X", "counts", "raw_counts", "raw"])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_raw_counts_are_found_where_they_stand(cells, save, real, place, form):
    counts = form(cells.X.toarray())
    normalised = sparse.csr_matrix(cells.X.multiply(0.37))
    if place == "raw":  # .raw may have more genes than X
        cells.X = counts
        cells.raw = cells
        cells = cells[:, :300].copy()
        cells.X = normalised[:, :300]
    elif place == "X":
        cells.X = counts
    else:
        cells.layers[place] = counts
        cells.X = normalised
    [part] = read_parts([save(cells)])
    assert same(part, expected(real))


def test_datasets_and_columns_are_kept_and_missing_ones_filled(cells, save):
    cells.obs["person"] = "p1"
    cells.obs["condition"] = pd.Categorical(np.array(["ctrl", "stim"])[np.arange(60) % 2])
    cells.obs["assay"] = "10X 3-prime V3"
    cells.obs["tissue"] = "blood"
    cells.obs.loc[cells.obs_names[:3], "donor_id"] = ["", " ", None]
    cells.obs["soma_joinid"] = 5
    [part] = read_parts([save(cells)])
    assert part.dataset["dataset_id"] == "mine"
    assert part.obs["donor_id"].tolist()[:4] == ["unknown", "unknown", "unknown", "d2"]
    assert set(part.obs["assay_ontology_term_id"]) == {"EFO:0009922"}
    assert set(part.obs["tissue_general"]) == {"blood"}
    assert set(part.obs["condition"]) == {"ctrl", "stim"}
    assert set(part.obs["person"]) == {"p1"}
    assert part.obs["observation_joinid"].tolist() == cells.obs_names.tolist()
    assert "soma_joinid" not in part.obs


def test_a_file_may_hold_several_datasets_and_a_dataset_stand_in_several_files(cells, save, real):
    cells.obs["dataset_id"] = np.where(np.arange(60) < 20, "one", "two")
    left, right = cells[:40, :500].copy(), cells[40:, 300:].copy()
    files = [save(right, "b.h5ad"), save(left, "a.h5ad")]
    one, two = read_parts(files)
    assert [part.dataset["dataset_id"] for part in (one, two)] == ["one", "two"]
    wanted = expected(real)
    assert same(one, wanted.iloc[:20, :500])
    joined = wanted.iloc[20:].copy()
    joined.iloc[:20, 500:] = 0  # not measured there
    joined.iloc[20:, :300] = 0
    assert same(two, joined)


def test_columns_may_be_empty_or_of_another_type_in_a_second_file(cells, save):
    cells.obs["dataset_id"] = "study"
    left, right = cells[:30].copy(), cells[30:].copy()
    left.obs["batch"], right.obs["batch"] = pd.Categorical(["a"] * 30), np.full(30, np.nan)
    left.obs["age"], right.obs["age"] = 40, 50.5
    [part] = read_parts([save(left, "a.h5ad"), save(right, "b.h5ad")])
    assert part.obs["batch"].map(str).tolist() == ["a"] * 30 + ["nan"] * 30
    assert part.obs["age"].tolist() == [40] * 30 + [50.5] * 30


def test_files_with_differing_genes_become_one_census(cells, save, real, tmp_path):
    """From files to `get_anndata`: the union of the genes, each count in its place, presence by dataset."""
    cells.obs["lane"] = "L1"
    first, second = save(cells[:30, :500].copy(), "first.h5ad"), save(with_ids(real[30:, 200:].copy()), "second.h5ad")
    write_census(tmp_path / "census", read_parts([second, first]))
    with cellxgene_census.open_soma(uri=str(tmp_path / "census")) as census:
        adata = cellxgene_census.get_anndata(census, "Homo sapiens")
        presence = cellxgene_census.get_presence_matrix(census, "Homo sapiens").toarray()
    assert adata.shape == (60, 800)
    assert adata.obs["dataset_id"].tolist() == ["first"] * 30 + ["second"] * 30
    assert adata.obs["lane"].tolist() == ["L1"] * 30 + ["unknown"] * 30
    assert presence.sum(axis=1).tolist() == [500, 600]
    found = pd.DataFrame(adata.X.toarray(), adata.obs["observation_joinid"], adata.var["feature_id"])
    wanted = expected(real)
    wanted.iloc[:30, 500:] = 0
    wanted.iloc[30:, :200] = 0
    assert (found.loc[wanted.index, wanted.columns] == wanted).all(axis=None)


def test_normalised_values_are_refused(cells, save):
    cells.X = cells.X.multiply(0.37).tocsr()
    cells.layers["counts"] = np.log1p(cells.X.toarray())
    file = save(cells)
    refused(file, str(file), "X holds normalised values, not whole numbers", "layers/counts holds normalised", "raw/X")


@pytest.mark.parametrize(
    ("value", "words"), [(-1, "X holds a negative value"), (np.nan, "X holds a missing"), (np.inf, "X holds")]
)
def test_values_that_are_no_counts_are_refused(cells, save, value, words):
    cells.X.data[cells.X.indptr[3]] = value
    column = cells.X.indices[cells.X.indptr[3]]
    file = save(cells)
    assert f"({value:g} in row 3, column {column})" in refused(file, str(file), words)


def test_counts_of_any_type_are_counts():
    for kind in (np.uint8, np.int32, np.int64, np.float32, np.float64, bool):
        assert fault_of(sparse.csr_matrix(np.array([[0, 1], [1, 0]], kind))) == ""
    assert "negative" in fault_of(sparse.csr_matrix(np.array([[0, -1]], np.int8)))


def test_cells_that_stand_there_twice_are_refused(cells, save):
    cells.obs.index = [*cells.obs_names[:-1], cells.obs_names[0]]
    file = save(cells)
    refused(file, str(file), "obs", f"'{cells.obs_names[0]}' more than once")


def test_a_cell_in_two_files_of_a_dataset_is_refused(cells, save):
    cells.obs["dataset_id"] = "study"
    files = [save(cells[:30].copy(), "a.h5ad"), save(cells[29:].copy(), "b.h5ad")]
    refused(files, "a.h5ad", "b.h5ad", "'study'", f"'{cells.obs_names[29]}'", "obs")


def test_two_files_of_one_name_need_dataset_ids(cells, save, tmp_path):
    (tmp_path / "other").mkdir()
    files = [save(cells[:30].copy()), save(cells[30:].copy(), "other/mine.h5ad")]
    refused(files, *map(str, files), "obs.dataset_id")
    assert len(list(read_parts([files[0], files[0]]))) == 1  # the same file named twice is one


def test_a_missing_sample_column_is_refused(cells, save):
    cells.obs = cells.obs.rename(columns={"donor_id": "patient"})
    file = save(cells)
    refused(file, str(file), "obs", "donor_id", "patient")


def test_empty_dataset_ids_are_refused(cells, save):
    cells.obs["dataset_id"] = ["a"] * 59 + [None]
    file = save(cells)
    refused(file, str(file), "obs.dataset_id is empty for 1 cells")


def test_truth_values_are_read_whatever_their_form(cells, save):
    for values in (["True", "false"], ["TRUE", "FALSE"], [1, 0], [1.0, 0.0], pd.Categorical([True, False])):
        assert truth("x.h5ad", "is_primary_data", pd.Series(values)).tolist() == [True, False]
    cells.obs["is_primary_data"] = "perhaps"
    file = save(cells)
    refused(file, str(file), "obs.is_primary_data holds 'perhaps'")


def test_damaged_files_are_refused(cells, save, tmp_path):
    file = save(cells)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused(file, str(file), "cannot be read as h5ad")
    file.write_bytes(b"no hdf5 at all")
    refused(file, str(file), "cannot be read as h5ad")
    refused(tmp_path / "absent.h5ad", "absent.h5ad: no such file")
    with h5py.File(file, "w") as store:
        store["X"] = np.ones((2, 2))
    refused(file, str(file), "no obs")


def test_a_file_whose_counts_are_damaged_is_refused(cells, save):
    file = save(cells)
    with h5py.File(file, "r+") as store:
        del store["X/indptr"]
    refused(file, str(file), "cannot be read as h5ad")


def test_a_file_of_anndata_before_0_7_is_refused():
    refused(package_file("scanpy", "datasets/10x_pbmc68k_reduced.h5ad"), "10x_pbmc68k_reduced.h5ad", "obs")


def test_nothing_to_read_is_refused(cells, save):
    refused([], "census.h5ad")
    file = save(cells[:0].copy())
    refused(file, str(file), "no cells")


def test_known_assays_have_their_ontology_ids():
    assert len(set(ASSAYS.values())) == len(ASSAYS)
    assert all(re.fullmatch(r"EFO:\d{7}", term) for term in ASSAYS.values())
    for label, term in ASSAYS.items():
        assert term_of(label) == term_of(label.upper()) == term_of(label.replace(" ", "_")) == term
    assert term_of("10x 3\u2032 v2") == term_of("10X 3 prime v2") == "EFO:0009899"
    assert term_of("SmartSeq2") == "EFO:0008931"
    assert term_of("my own method") == ""


@pytest.mark.slow
@pytest.mark.blood
def test_all_real_blood_becomes_one_census(blood, tmp_path):
    """Every count, label and gene list of the twelve files; in the Census's own package's hands."""
    files = sorted(blood.glob("*.h5ad"))
    datasets = write_census(tmp_path / "census", read_parts(files)).set_index("dataset_id")
    assert datasets.index.tolist() == [file.stem for file in files]
    with cellxgene_census.open_soma(uri=str(tmp_path / "census")) as census:
        obs = cellxgene_census.get_obs(census, "Homo sapiens")
        presence = cellxgene_census.get_presence_matrix(census, "Homo sapiens").toarray()
        ids = cellxgene_census.get_var(census, "Homo sapiens")["feature_id"].to_numpy(str)
        assert len(obs) == datasets["dataset_total_cell_count"].sum() == 33229
        assert {"person", "condition", "replicate", "lane"} < set(obs)
        assert not obs["assay_ontology_term_id"].eq("unknown").any()
        for row, file in enumerate(files):
            source = ad.read_h5ad(file)
            assert set(ids[presence[row] == 1]) == set(source.var["feature_id"])
            here = obs[obs["dataset_id"] == file.stem].set_index("observation_joinid").loc[source.obs_names]
            assert (here["donor_id"].astype(str).to_numpy() == source.obs["donor_id"].astype(str).to_numpy()).all()
            assert (here["raw_sum"].to_numpy() == np.asarray(source.X.sum(axis=1, dtype=np.float64)).ravel()).all()
        kang = cellxgene_census.get_anndata(census, "Homo sapiens", obs_value_filter="dataset_id == 'kang_ctrl_stim'")
    source = ad.read_h5ad(blood / "kang_ctrl_stim.h5ad")
    rows = pd.Index(kang.obs["observation_joinid"]).get_indexer(source.obs_names)
    columns = pd.Index(kang.var["feature_id"]).get_indexer(source.var["feature_id"])
    assert (kang.X[rows][:, columns] != source.X).nnz == 0
    assert kang.X.sum() == source.X.sum()
