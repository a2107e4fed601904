"""h5ad files of one's own: whatever they hold, `ingest` reads them or says what is wrong with which file."""

import os

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from censusformer.census.ingest import read_parts
from censusformer.cli import main
from censusformer.errors import InputError

CASES = int(os.environ.get("FUZZ_CASES", "100"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Transforming to str index"),
    pytest.mark.filterwarnings("ignore:Variable names are not unique"),
    pytest.mark.filterwarnings("ignore:Observation names are not unique"),
]
DONORS = [
    "d1",
    "../../x",
    'O\'Brien "x" y',
    "ü 漢",
    "<script>alert(1)</script>",
    "a;b|c&d$(e)`f`",
    "-rf",
    "",
    " ",
    "a/b",
    "\\",
]
N_CELLS, N_GENES = 6, 5


def write(path, x, genes, obs, how="csr"):
    x = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[how](x)
    ad.AnnData(x, obs, pd.DataFrame(index=pd.Index(genes, dtype=object))).write_h5ad(path)


def ensembl(*numbers):
    return [f"ENSG{number:011d}" for number in numbers]


@st.composite
def inputs(draw):
    """Counts of odd values, genes and donors of odd names; and whether all of it is sound."""
    kind = draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint16]))
    counts = (
        np.array(draw(st.lists(st.integers(0, 60), min_size=30, max_size=30))).reshape(N_CELLS, N_GENES).astype(kind)
    )
    odd = draw(st.sampled_from([None, None, np.nan, np.inf, -np.inf, -1, 0.5, "huge"]))
    if odd is not None and np.dtype(kind).kind == "f":
        place = draw(st.integers(0, N_CELLS - 1)), draw(st.integers(0, N_GENES - 1))
        counts[place] = np.finfo(kind).max if odd == "huge" else odd
    genes = draw(
        st.sampled_from([ensembl(1, 2, 3, 4, 5), ensembl(1, 1, 2, 3, 4), ["CD3E", "CD3E", "MS4A1", "LYZ", "x"],
                         ["a", "b", "c", "d", "e"], [*ensembl(1, 2, 3, 4), "../../x"]])
    )  # fmt: skip
    donors = draw(st.lists(st.sampled_from(DONORS) | st.text(max_size=6), min_size=N_CELLS, max_size=N_CELLS))
    names = draw(st.sampled_from([list("abcdef"), list("abcdea"), ["", "/", "..", "\n", "é", "x y"]]))
    obs = pd.DataFrame({"donor_id": pd.Series(donors, index=names, dtype=object)}, index=names)
    return counts, genes, obs, draw(st.sampled_from(["csr", "csc", "dense"]))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("own") / "mine.h5ad"


@given(case=inputs())
@FUZZ
def test_a_file_is_read_as_it_is_or_refused(path, case):
    counts, genes, obs, how = case
    try:
        write(path, counts, genes, obs, how)
    except (ValueError, TypeError):  # what anndata itself cannot write nobody has
        return
    try:
        (part,) = read_parts([path])
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert np.all((counts >= 0) & (counts == np.floor(counts)) & np.isfinite(counts.astype(float)))
    assert part.counts.shape[0] == N_CELLS == len(part.obs)
    if all(gene.startswith("ENSG") for gene in genes):
        assert np.array_equal(np.asarray(part.counts.sum(axis=1)).ravel(), counts.sum(axis=1))
    assert (part.obs["donor_id"].str.strip() != "").all()


@pytest.fixture(scope="module")
def good(path):
    """The bytes of a sound file."""
    obs = pd.DataFrame({"donor_id": ["d"] * N_CELLS}, index=list("abcdef"))
    write(path, np.arange(30).reshape(N_CELLS, N_GENES).astype(np.float32), ensembl(1, 2, 3, 4, 5), obs)
    return path.read_bytes()


@given(data=st.data())
@FUZZ
def test_a_damaged_file_is_refused_or_read(path, good, data):
    content = bytearray(good)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=30)):
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        list(read_parts([path]))
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (lambda file: None, "no obs"),
        (lambda file: file.create_dataset("X", data=[1]), "no obs"),
        (lambda file: file.create_group("obs"), "cannot be read|no obs|before 0.7"),
    ],
)
def test_hdf5_that_is_no_h5ad(tmp_path, capsys, store, said):
    with h5py.File(tmp_path / "odd.h5ad", "w") as file:
        store(file)
    with pytest.raises(InputError, match=said):
        list(read_parts([tmp_path / "odd.h5ad"]))
    assert main(["ingest", "--h5ad", str(tmp_path / "odd.h5ad"), "--out", str(tmp_path / "soma")]) == 2
    shown = capsys.readouterr().err
    assert "odd.h5ad" in shown and "Traceback" not in shown and not (tmp_path / "soma").exists()


def test_no_genes_no_cells(tmp_path):
    for n_cells, n_genes in ((0, 5), (6, 0)):
        file = tmp_path / f"{n_cells}.h5ad"
        obs = pd.DataFrame({"donor_id": ["d"] * n_cells}, index=list("abcdef")[:n_cells])
        write(file, np.ones((n_cells, n_genes), np.float32), ensembl(1, 2, 3, 4, 5)[:n_genes], obs)
        with pytest.raises(InputError, match=file.name):
            list(read_parts([file]))
