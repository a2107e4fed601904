"""Real cells as a user's own AnnData, and a model that can read them."""

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from censusformer.census.real_cells import read_sample
from censusformer.census.symbols import ids_of, package_file, read_gencode
from censusformer.model import ModelConfig, Pretrainer
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training import checkpoints

N_READ = 300  # genes that the model reads


def real_cells(n=60, n_genes=800):
    """Real cells of celltypist in their most expressed genes with an Ensembl id: AnnData with symbols as names."""
    names, symbols, counts = read_sample(package_file("celltypist", "data/samples/sample_cell_by_gene.csv"))
    ids = ids_of(symbols, read_gencode())
    total = np.asarray(counts.sum(axis=0)).ravel() * (ids != "")
    top = np.sort(np.argsort(-total, kind="stable")[:n_genes])
    var = pd.DataFrame({"feature_id": ids[top]}, index=symbols[top])
    obs = pd.DataFrame({"donor_id": np.array(["d1", "d2"])[np.arange(n) % 2]}, index=names[:n])
    return ad.AnnData(sparse.csr_matrix(counts[:n][:, top], dtype=np.float32), obs, var)


def vocabulary_for(adata, n_selected=500):
    """All genes of the AnnData by id; some were selected by several samples, some by none."""
    order = np.argsort(adata.var["feature_id"].to_numpy(str))
    ids, names = adata.var["feature_id"].to_numpy(str)[order], adata.var_names.to_numpy(str)[order]
    counts = np.random.default_rng(0).integers(1, 6, len(ids))
    counts[np.random.default_rng(1).permutation(len(ids))[n_selected:]] = 0
    return Vocabulary(tuple(ids.tolist()), tuple(names.tolist()), tuple(counts.tolist()))


def about_model(vocabulary, /, **changes):
    """What a model's file says beside its weights."""
    about = {
        "vocab_sha256": vocabulary.sha256,
        "vocabulary": vocabulary.to_json(),
        "binning": {"method": "cell", "ties": "random", "seed": 0},
        "n_bins": 51,
        "max_length": N_READ + 1,
        "epoch": 1,
        "step": 1,
        "valid": {"gep": 1.0, "gepc": 1.0, "sum": 2.0},
        "args": {"train": {"recipe": "reference"}},
    }
    return {key: value for key, value in {**about, **changes}.items() if value is not None}


def write_model(path, vocabulary, *, norm="post", gene_bias=False, about=None, **shape):
    """A model of random weights, as `pretrain` would write it."""
    torch.manual_seed(0)
    shape = {"n_layers": 2, "d_model": 16, "n_heads": 4, "d_ff": 16, "dropout": 0.1, **shape}
    model = Pretrainer(ModelConfig(vocabulary.n_genes, **shape, norm=norm, gene_bias=gene_bias))
    for parameter in model.parameters():  # biases and LayerNorms off their start, so that a missing one is seen
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    model.encoder.embedding.weight.data[vocabulary.pad] = 0
    content = {"state_dict": model.state_dict(), "model": model.config.to_dict()}
    checkpoints.save(path, "model", {**content, **about_model(vocabulary, **(about or {}))})
    return path
