"""One's own cells as a model reads them: whatever the file looks like, the same tokens."""

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_cells import N_READ, about_model, real_cells, vocabulary_for
from scipy import sparse

from censusformer.errors import InputError
from censusformer.hashing import words
from censusformer.steps import _counts
from censusformer.steps._counts import of_adata, open_file
from censusformer.steps._own import OwnCells, Reading

REAL = real_cells()
VOCABULARY = vocabulary_for(REAL)
READING = Reading.of(about_model(VOCABULARY), "best_model.pt")


def read(adata, layer="auto", **options):
    return OwnCells(of_adata(adata, layer), READING, **options).read()


def same(one, two):
    for name in ("cell", "offsets", "genes", "values", "tie_var"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for name in ("sample", "dataset_id", "cell_type"):
        assert getattr(one, name).labels().tolist() == getattr(two, name).labels().tolist()
    return True


WHOLE = read(REAL)


def with_names(names, adata=REAL, **columns):
    adata = adata.copy()
    adata.var = adata.var[[]].assign(**columns)
    adata.var_names = names
    return adata


def test_reads_the_genes_that_most_samples_selected():
    counts = np.array(VOCABULARY.n_samples)
    assert len(READING.genes) == N_READ
    left = np.setdiff1d(np.arange(len(counts)), READING.genes)
    assert counts[READING.genes].min() >= counts[left].max()
    assert set(np.unique(WHOLE.genes)) <= set(READING.genes.tolist())


def test_a_cell_is_its_non_zero_genes_of_the_list_with_bins_that_rise_with_counts():
    frame = REAL.to_df().T.groupby(REAL.var["feature_id"].to_numpy()).sum().T
    for i in range(len(WHOLE)):
        tokens = slice(WHOLE.offsets[i], WHOLE.offsets[i + 1])
        wanted = frame.iloc[i][[VOCABULARY.genes[g] for g in READING.genes]].to_numpy()
        np.testing.assert_array_equal(WHOLE.genes[tokens], READING.genes[wanted > 0])
        order = np.argsort(wanted[wanted > 0], kind="stable")
        bins, counts = WHOLE.values[tokens][order].astype(int), wanted[wanted > 0][order]
        assert bins.min() >= 1
        assert bins.max() <= 50
        assert all(bins[counts < x].max(initial=0) <= bins[counts == x].min() for x in np.unique(counts))
    assert WHOLE.cell.tolist() == words(f":{name}" for name in REAL.obs_names).tolist()


@pytest.mark.parametrize("form", ["symbols", "ids", "versions", "id column", "name column"])
def test_genes_are_known_by_symbols_and_ids_wherever_they_stand(form):
    ids, symbols = REAL.var["feature_id"].to_numpy(str), REAL.var_names
    some = [f"g{i}" for i in range(REAL.n_vars)]
    adata = {
        "symbols": with_names(symbols),
        "ids": with_names(ids),
        "versions": with_names([f"{gene}.7" for gene in ids]),
        "id column": with_names(some, gene_ids=ids),
        "name column": with_names(some, gene_name=symbols),
    }[form]
    assert same(read(adata), WHOLE)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 100))
def test_a_cell_hangs_on_itself_alone(seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(60)[: rng.integers(1, 61)], rng.permutation(REAL.n_vars)
    assert same(read(REAL[rows][:, columns].copy()), WHOLE.take(rows))


@pytest.mark.parametrize("block", [1, 7])
def test_blocks_change_nothing(monkeypatch, block):
    monkeypatch.setattr(_counts, "BLOCK", block)
    assert same(read(REAL), WHOLE)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "integers", "backed", "compressed"])
def test_files_of_any_layout(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(_counts, "PASS", 2000)  # several passes over a file by genes
    adata, path = REAL.copy(), tmp_path / "mine.h5ad"
    forms = {"csc": sparse.csc_matrix, "dense": lambda x: x.toarray(), "integers": lambda x: x.astype(np.int64)}
    adata.X = forms.get(kind, lambda x: x)(adata.X)
    adata.obs["dataset_id"] = "study"
    adata.write_h5ad(path, compression="gzip" if kind == "compressed" else None)
    wanted = read(adata)
    if kind == "backed":
        backed = ad.read_h5ad(path, backed="r")
        assert same(read(backed), wanted)
        backed.file.close()
    assert same(OwnCells(open_file(path), READING).read(), wanted)
    assert same(read(ad.read_h5ad(path)), wanted)


@pytest.mark.parametrize("place", ["layers/counts", "raw/X", "layers/mine"])
def test_counts_in_a_layer_or_in_raw(tmp_path, place):
    adata = REAL.copy()
    if place == "raw/X":
        adata.raw = REAL
        adata = adata[:, :5].copy()
    else:
        adata.layers[place.removeprefix("layers/")] = adata.X.copy()
    adata.X = adata.X.log1p()
    layer = "mine" if place == "layers/mine" else "auto"
    adata.write_h5ad(tmp_path / "mine.h5ad")
    source = open_file(tmp_path / "mine.h5ad", layer)
    assert source.place == place
    own = OwnCells(source, READING).read()
    assert np.array_equal(own.genes, WHOLE.genes)
    assert same(read(adata, layer), WHOLE)
    assert own.dataset_id.names == ("mine",)
    assert set(own.sample.names) == {"mine:d1", "mine:d2"}


def test_genes_that_share_an_id_are_summed_and_strangers_are_left_out():
    half = REAL.copy()
    half.X = sparse.csr_matrix(np.floor(REAL.X.toarray() / 2))
    rest = REAL.copy()
    rest.X = sparse.csr_matrix(REAL.X - half.X)
    rest.var_names = [f"{gene}.2" for gene in REAL.var["feature_id"]]
    half = with_names(REAL.var["feature_id"], half)
    stranger = with_names([f"ENSG9{i:010d}" for i in range(REAL.n_vars)])
    parts = [x.X for x in (half, rest, stranger)]
    adata = ad.AnnData(sparse.csr_matrix(sparse.hstack(parts)), REAL.obs)
    adata.var_names = [*half.var_names, *rest.var_names, *stranger.var_names]
    own = OwnCells(of_adata(adata), READING)
    assert same(own.read(), WHOLE)
    assert own.coverage.share == 1
    assert own.coverage.counts == 2 * own.coverage.known == 2 * int(REAL.X.sum())
    listed = np.isin(REAL.var["feature_id"], [VOCABULARY.genes[g] for g in READING.genes])
    assert own.coverage.read == int(REAL.X[:, listed].sum())
    assert "300 of the 300 genes" in str(own.coverage)
    assert "50.0 % of the counts are on genes of its vocabulary" in str(own.coverage)


def test_labels():
    adata = REAL.copy()
    adata.obs["cell_type"] = [None, ""] + ["B cell"] * 58
    own = read(adata)
    assert own.cell_type.labels()[:3].tolist() == ["unknown", "unknown", "B cell"]


def test_no_cells_and_cells_without_genes():
    empty = REAL[:3].copy()
    empty.X = sparse.csr_matrix(empty.shape, dtype=np.float32)
    assert read(empty).lengths.tolist() == [0, 0, 0]
    assert len(read(REAL[:0].copy())) == 0


def test_middle_ties_hang_on_counts_alone():
    reading = Reading.of(about_model(VOCABULARY, binning={"method": "cell", "ties": "middle", "seed": 0}), "m.pt")
    renamed = REAL.copy()
    renamed.obs_names = [f"x{i}" for i in range(60)]
    one, two = (OwnCells(of_adata(x), reading).read() for x in (REAL, renamed))
    assert np.array_equal(one.values, two.values)
    assert not np.array_equal(read(renamed).values, WHOLE.values)


def refused(words, adata=REAL, layer="auto", **options):
    with pytest.raises(InputError) as caught:
        read(adata, layer, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_refused():
    few = ad.AnnData(np.ones((2, 10), np.float32))
    few.var_names = [f"g{i}" for i in range(10)]
    refused("no gene in common with the model (its genes: g0, g1, g2", few)
    refused("of the 300 genes that the model reads, under 50 %", REAL[:, :200].copy())
    assert len(read(REAL[:, :200].copy(), min_coverage=0.1)) == 60
    bad = REAL.copy()
    bad.X = bad.X.log1p()
    refused("X holds normalised values, not whole numbers", bad)
    refused("no layers/mine", layer="mine")
    bad = REAL.copy()
    bad.X[50, 0] = 0.5
    refused("X holds normalised values, not whole numbers (0.5 in row 50, column 0)", bad)
    bad.X[50, 0] = -1
    refused("X holds a negative value (-1 in row 50, column 0)", bad)
    bad.X[50, 0] = 2.0**40
    refused("X holds a count of over four billion", bad)


def test_a_fault_behind_the_first_block_is_found(monkeypatch):
    monkeypatch.setattr(_counts, "BLOCK", 8)
    bad = REAL.copy()
    bad.X[50, 0] = 0.5
    refused("the AnnData: X holds normalised values, not whole numbers (0.5 in row 50, column 0)", bad)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "mine.h5ad"
    with pytest.raises(InputError, match="no such file"):
        open_file(path)
    REAL.write_h5ad(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"mine.h5ad: cannot be read as h5ad"):
        open_file(path)


def test_models_that_cannot_read_other_cells_are_refused():
    binning = {"method": "global", "ties": "random", "seed": 0}
    with pytest.raises(InputError, match=r"best_model.pt was trained with binning.method global"):
        Reading.of(about_model(VOCABULARY, binning=binning), "best_model.pt")


def test_older_models_take_the_vocabulary_beside_them(tmp_path):
    old = about_model(VOCABULARY, vocabulary=None, binning=None)
    with pytest.raises(InputError, match=r"without its vocabulary: put the vocab.json"):
        Reading.of(old, tmp_path / "best_model.pt")
    VOCABULARY.write(tmp_path / "vocab.json")
    assert Reading.of(old, tmp_path / "best_model.pt") == READING
    with pytest.raises(InputError, match="vocabulary of another model"):
        Reading.of({**old, "vocab_sha256": "0" * 64}, tmp_path / "best_model.pt")
