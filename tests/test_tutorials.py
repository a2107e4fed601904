"""The tutorials run: every command and every line of Python in docs/tutorials, in their order, on real cells."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own_cells import real_cells, vocabulary_for, write_model
from scipy import sparse

pytestmark = pytest.mark.slow

NAMES = ("embed_and_annotate", "integrate_two_studies", "finetune_your_labels", "add_a_task")
BLOCK = re.compile(r"^```(bash|python)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def cells():
    """400 real cells of six invented donors, with labels by what they express."""
    adata = real_cells(n=400)
    ribosomal = np.asarray(adata.X[:, adata.var_names.str.startswith("RP")].sum(1) / adata.X.sum(1)).ravel()
    adata.obs["cell_type"] = np.where(ribosomal > np.median(ribosomal), "T cell", "monocyte")
    adata.obs["condition"] = np.where(ribosomal > np.quantile(ribosomal, 0.6), "stimulated", "control")
    adata.obs["n_genes"] = np.diff(adata.X.indptr)
    adata.obs["donor_id"] = [f"donor {i % 6}" for i in range(400)]
    return adata


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What a reader of the tutorials has: a model, and files of their own."""
    folder, adata = tmp_path_factory.mktemp("tutorials"), cells()
    write_model(folder / "best_model.pt", vocabulary_for(adata), norm="pre", gene_bias=True)
    adata.write_h5ad(folder / "labelled.h5ad")
    adata[:100, ::-1].copy().write_h5ad(folder / "new.h5ad")
    for name, part in (("a", adata[::2].copy()), ("b", adata[1::2].copy())):
        part.X = sparse.csr_matrix(np.floor(part.X.toarray() / (2 if name == "b" else 1)))
        part.write_h5ad(folder / f"study_{name}.h5ad")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_block_runs(root, given, name):
    (given / "tasks").mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "CENSUSFORMER_TASKS": "tasks", "OMP_NUM_THREADS": "1"}
    blocks = BLOCK.findall((root / f"docs/tutorials/{name}.md").read_text())
    assert len(blocks) >= 3
    for language, file, code in blocks:
        if file:
            (given / file).write_text(code)
            continue
        command = ["bash", "-euc", code] if language == "bash" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=given, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        assert done.stdout or language == "bash" or "print" not in code


def test_every_tutorial_is_listed_and_tested(root):
    folder = root / "docs/tutorials"
    found = {path.stem for path in folder.glob("*.md")} - {"README"}
    assert found == set(NAMES)
    listed = set(re.findall(r"\((\w+)\.md\)", (folder / "README.md").read_text()))
    assert listed == found
