"""The padded layout: the brief's tensors, and the same training as on packed cells."""

import numpy as np
import pytest
import torch
from small_shards import cells_of, expressed, vocabulary_of

from censusformer.model import ModelConfig, Pretrainer, squared_errors
from censusformer.tokens.masking import training_mask
from censusformer.training import collate_padded, pack_padded
from censusformer.training.batches import pack

VOCABULARY = vocabulary_of(80)


def masked(cells, epoch=0):
    return training_mask(cells, VOCABULARY.gene_words, (0.25, 0.5, 0.75), "cell", seed=0, epoch=epoch)[0]


def test_layout_by_hand():
    cells = cells_of([[5, 7], [2, 3, 9]], [[10, 20], [30, 40, 50]])
    padded = collate_padded(cells, np.array([0, 1, 1, 0, 1], bool), VOCABULARY, 5)
    assert padded.genes.tolist() == [[80, 5, 7, 81, 81], [80, 2, 3, 9, 81]]
    assert padded.values.tolist() == [[0, 10, -1, -2, -2], [0, -1, 40, -1, -2]]
    assert padded.targets.tolist() == [[0, 10, 20, -2, -2], [0, 30, 40, 50, -2]]
    assert padded.mask.tolist() == [[False, False, True, False, False], [False, True, False, True, False]]
    assert padded.padding.tolist() == [[False] * 3 + [True] * 2, [False] * 4 + [True]]


def test_the_briefs_shape():
    cells = expressed(32)
    padded = collate_padded(cells, masked(cells), VOCABULARY)
    assert padded.genes.shape == padded.values.shape == padded.mask.shape == (32, 1201)
    assert (padded.padding.sum(1).numpy() == 1200 - cells.lengths).all()
    assert not (padded.mask & padded.padding).any()
    assert not padded.mask[:, 0].any()


def test_a_cell_that_does_not_fit_is_refused():
    cells = cells_of([[1, 2, 3]], [[1, 2, 3]])
    assert collate_padded(cells, np.zeros(3, bool), VOCABULARY, 4).padding.sum() == 0
    with pytest.raises(ValueError, match="max_length 3"):
        collate_padded(cells, np.zeros(3, bool), VOCABULARY, 3)


def test_packing_takes_the_padding_away():
    cells = expressed(9)
    mask = masked(cells)
    one, two = pack(cells, mask, VOCABULARY.cls).batch(0, 9), pack_padded(collate_padded(cells, mask, VOCABULARY))
    for a, b in zip((*one.packed, *one[1:]), (*two.packed, *two[1:]), strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def padded_loss(model, padded):
    """The loss on (cells, 1201) tensors with PyTorch's own padded Transformer, weights taken from the model."""
    c = model.config
    layer = torch.nn.TransformerEncoderLayer(c.d_model, c.n_heads, c.d_ff, 0.0, batch_first=True)
    stack = torch.nn.TransformerEncoder(layer, c.n_layers, enable_nested_tensor=False)
    parameters = {name: p for name, p in model.named_parameters() if name.startswith("transformer_encoder.")}
    parameters = {name.removeprefix("transformer_encoder."): p for name, p in parameters.items()}
    vectors = model.encoder(padded.genes)
    x = vectors + model.value_encoder(padded.values)
    tokens = torch.func.functional_call(stack, parameters, (x,), {"src_key_padding_mask": padded.padding})
    gep = model.decoder.fc(tokens).squeeze(-1)
    query = model.mvc_decoder.W(torch.sigmoid(model.mvc_decoder.gene2query(vectors)))
    gepc = torch.bmm(query, tokens[:, 0, :, None]).squeeze(2)
    mse = torch.nn.functional.mse_loss
    return sum(mse(head[padded.mask], padded.targets[padded.mask]) for head in (gep, gepc))


def packed_loss(model, batch):
    return squared_errors(model(batch.packed, batch.positions, batch.cells), batch.targets).sum() / batch.n_masked


def test_training_on_padded_and_on_packed_cells_gives_the_same_loss():
    """Five steps of each, losses and gradients compared at every step."""
    cells = expressed(12)
    shape = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_ff": 16, "dropout": 0.0}
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(Pretrainer(ModelConfig(80, **shape)))
    optimizers = [torch.optim.SGD(model.parameters(), lr=1e-4) for model in models]
    for epoch in range(5):
        mask = masked(cells, epoch)
        padded, batch = collate_padded(cells, mask, VOCABULARY), pack(cells, mask, VOCABULARY.cls).batch(0, 12)
        losses = [padded_loss(models[0], padded), packed_loss(models[1], batch)]
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
        for (name, one), two in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
            scale = one.grad.abs().max().item()
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-5 * scale, msg=name)
        for optimizer in optimizers:
            optimizer.step()
