"""Embeddings of cells hang on the cell alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shards import cells_of, expressed, vocabulary_of

from censusformer.model import ModelConfig, Pretrainer
from censusformer.training import collate_padded, embed_cells
from censusformer.training.embedding import POOLINGS

CELLS = expressed(12)
EXACT = {"rtol": 1e-5, "atol": 1e-5}


def model_of(norm="post"):
    torch.manual_seed(0)
    return Pretrainer(ModelConfig(80, 2, 16, 4, 16, 0.5, norm=norm))


MODEL = model_of()


def nothing_masked(model, cells):
    """Outputs of each cell's tokens, cell by cell through the padded layout: another way to the same numbers."""
    padded = collate_padded(cells, np.zeros(cells.n_tokens, bool), vocabulary_of(80), max_length=61)
    for genes, values, padding in zip(padded.genes, padded.values, padded.padding, strict=True):
        x = model.encoder(genes[~padding]) + model.value_encoder(values[~padding])
        n = len(x)
        yield model.transformer_encoder(x, torch.tensor([0, n], dtype=torch.int32), n)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_is_the_output_at_cls_or_the_mean_of_all_tokens(norm):
    model = model_of(norm).eval()
    with torch.no_grad():
        outputs = list(nothing_masked(model, CELLS))
    np.testing.assert_allclose(embed_cells(model, CELLS), torch.stack([x[0] for x in outputs]).numpy(), **EXACT)
    means = torch.stack([x.mean(0) for x in outputs]).numpy()
    np.testing.assert_allclose(embed_cells(model, CELLS, "mean"), means, **EXACT)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(12)), tokens=st.integers(1, 500), pooling=st.sampled_from(POOLINGS))
def test_order_and_batches_change_nothing(order, tokens, pooling):
    whole = embed_cells(MODEL, CELLS, pooling)
    mixed = embed_cells(MODEL, CELLS.take(np.array(order)), pooling, batch_tokens=tokens)
    np.testing.assert_allclose(mixed, whole[order], **EXACT)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_other_cells_and_the_order_of_genes_change_nothing(pooling):
    whole = embed_cells(MODEL, CELLS, pooling)
    alone = np.concatenate([embed_cells(MODEL, CELLS.take(np.array([i])), pooling) for i in range(12)])
    np.testing.assert_allclose(alone, whole, **EXACT)
    genes, values = (np.split(x, CELLS.offsets[1:-1]) for x in (CELLS.genes, CELLS.values))
    turned = cells_of([x[::-1] for x in genes], [x[::-1] for x in values], CELLS.cell)
    np.testing.assert_allclose(embed_cells(MODEL, turned, pooling), whole, **EXACT)


def test_values_and_genes_do_matter():
    whole, first = embed_cells(MODEL, CELLS), CELLS.offsets[1]
    genes, values = CELLS.genes.astype(int), CELLS.values.copy()
    values[:first] = 51 - values[:first]
    split = [np.split(x, CELLS.offsets[1:-1]) for x in (genes, values)]
    other = embed_cells(MODEL, cells_of(*split, CELLS.cell))
    assert np.abs(other[0] - whole[0]).max() > 1e-3
    np.testing.assert_allclose(other[1:], whole[1:], **EXACT)


def test_the_mode_stays_as_it_was_and_no_dropout_is_drawn():
    MODEL.train()
    one = embed_cells(MODEL, CELLS)
    assert MODEL.training
    MODEL.eval()
    np.testing.assert_array_equal(one, embed_cells(MODEL, CELLS))
    assert not MODEL.training


def test_no_cells_cells_without_genes_and_calls_between():
    none = embed_cells(MODEL, CELLS.take(np.empty(0, np.int64)))
    assert none.shape == (0, 16)
    assert none.dtype == np.float32
    empty = cells_of([[], [3]], [[], [9]])
    assert all(np.isfinite(embed_cells(MODEL, empty, pooling)).all() for pooling in POOLINGS)
    calls = []
    embed_cells(MODEL, CELLS, batch_tokens=1, between=lambda: calls.append(1))
    assert len(calls) == 12


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="pooling 'max'"):
        embed_cells(MODEL, CELLS, "max")
    with pytest.raises(ValueError, match="gene 80 is none"):
        embed_cells(MODEL, cells_of([[80]], [[1]]))
