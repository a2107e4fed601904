"""The model: scGPT's shapes, invariances, heads and their bias."""

import numpy as np
import pytest
import torch
from torch import nn

from censusformer.errors import InputError
from censusformer.model import ModelConfig, Packed, Pretrainer, parameter_counts, squared_errors

N_GENES = 30


def config(**changes):
    shape = {"n_layers": 2, "d_model": 16, "n_heads": 4, "d_ff": 24, "dropout": 0.0, **changes}
    return ModelConfig(N_GENES, **shape)


def model_of(seed=0, **changes):
    torch.manual_seed(seed)
    model = Pretrainer(config(**changes)).double().eval()
    for p in model.parameters():  # biases and LayerNorms off their start, so that a missing one is seen
        p.data.add_(0.05 * torch.randn_like(p))
    return model


def packed_of(cells):
    """Pack lists of (gene, value); `<cls>` goes first."""
    rows = [[(N_GENES, 0), *cell] for cell in cells]
    genes, values = zip(*(pair for row in rows for pair in row), strict=True)
    lengths = [len(row) for row in rows]
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    return Packed(torch.tensor(genes), torch.tensor(values, dtype=torch.float64), cu_seqlens, max(lengths))


def random_cells(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [
        [(int(g), float(v)) for g, v in zip(rng.permutation(N_GENES)[:n], rng.integers(-1, 50, n), strict=True)]
        for n in lengths
    ]


def everywhere(packed):
    """Ask for every position: positions and their cells."""
    lengths = packed.cu_seqlens.diff()
    return torch.arange(len(packed.genes)), torch.arange(len(lengths)).repeat_interleave(lengths)


def scgpt_forward(model, cells):
    """The same computation in PyTorch's own modules over padded cells, weights taken over by scGPT's names."""
    c, state = model.config, model.state_dict()
    layer = nn.TransformerEncoderLayer(c.d_model, c.n_heads, c.d_ff, 0.0, batch_first=True, norm_first=c.norm == "pre")
    norm = nn.LayerNorm(c.d_model) if c.norm == "pre" else None
    encoder = nn.TransformerEncoder(layer, c.n_layers, norm, enable_nested_tensor=False).double().eval()
    prefix = "transformer_encoder."
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    longest = max(map(len, cells)) + 3  # more padding than needed
    genes = torch.full((len(cells), longest), c.pad)
    values = torch.full((len(cells), longest), -2.0, dtype=torch.float64)
    for i, cell in enumerate(cells):
        genes[i, : len(cell) + 1] = torch.tensor([N_GENES, *(g for g, _ in cell)])
        values[i, : len(cell) + 1] = torch.tensor([0, *(v for _, v in cell)])
    vectors = model.encoder(genes)
    tokens = encoder(vectors + model.value_encoder(values), src_key_padding_mask=genes == c.pad)
    gep = model.decoder.fc(tokens).squeeze(-1)
    query = model.mvc_decoder.W(torch.sigmoid(model.mvc_decoder.gene2query(vectors)))
    gepc = torch.bmm(query, tokens[:, 0, :, None]).squeeze(2)
    real = genes != c.pad
    return gep[real], gepc[real]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("backend", ["cpu", "padded"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_same_as_scgpts_modules_on_padded_cells(norm, backend):
    model = model_of(norm=norm)
    model.set_attention(backend)
    cells = random_cells([3, 17, 1, 8])
    packed = packed_of(cells)
    wanted, got = scgpt_forward(model, cells), model(packed, *everywhere(packed))
    for one, two in zip(wanted, got, strict=True):
        torch.testing.assert_close(two.double(), one, rtol=1e-5, atol=1e-5)


def test_parameters_bear_scgpts_names():
    names = set(Pretrainer(config(n_layers=1)).state_dict())
    layer = "transformer_encoder.layers.0."
    attention = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    wanted = {"encoder.embedding.weight", "mvc_decoder.W.weight"} | {f"{layer}self_attn.{name}" for name in attention}
    pairs = ["encoder.enc_norm", "value_encoder.linear1", "value_encoder.linear2", "value_encoder.norm"]
    pairs += [f"decoder.fc.{i}" for i in (0, 2, 4)] + ["mvc_decoder.gene2query"]
    pairs += [layer + name for name in ("linear1", "linear2", "norm1", "norm2")]
    assert names == wanted | {f"{pair}.{kind}" for pair in pairs for kind in ("weight", "bias")}


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_permuting_genes_permutes_outputs(norm):
    model = model_of(norm=norm, gene_bias=True)
    cell = random_cells([20])[0]
    order = np.random.default_rng(1).permutation(20)
    straight, turned = packed_of([cell]), packed_of([[cell[i] for i in order]])
    for one, two in zip(model(straight, *everywhere(straight)), model(turned, *everywhere(turned)), strict=True):
        torch.testing.assert_close(two[0], one[0])
        torch.testing.assert_close(two[1:], one[1:][torch.from_numpy(order)])


def test_other_cells_change_nothing():
    model = model_of()
    cells = random_cells([6, 13, 4])
    together, alone = packed_of(cells), packed_of(cells[1:2])
    all_of, one_of = model(together, *everywhere(together)), model(alone, *everywhere(alone))
    for one, two in zip(one_of, all_of, strict=True):
        torch.testing.assert_close(two[7:21], one)


def test_a_masked_value_cannot_leak():
    """Nothing but the mask's value and the gene enters for a masked gene: its bin is not in the input at all."""
    model = model_of()
    packed = packed_of([[(1, -1), (2, 7)]])
    shown = packed._replace(values=torch.tensor([0.0, 9.0, 7.0], dtype=torch.float64))
    hidden = model(packed, *everywhere(packed)).gep
    assert not torch.allclose(model(shown, *everywhere(shown)).gep, hidden)


def test_a_model_with_gene_bias_can_start_at_the_means():
    model = model_of(gene_bias=True)
    packed = packed_of(random_cells([9, 4]))
    ask = torch.tensor([1, 2, 9, 11]), torch.tensor([0, 0, 0, 1])
    mean = torch.linspace(5, 40, N_GENES)
    before = model(packed, *ask).gepc - model.mvc_decoder.gene_bias[packed.genes[ask[0]]].float()
    model.start_at_means(mean.numpy(), 0.5)
    after = model(packed, *ask)
    wanted = mean[packed.genes[ask[0]]]
    torch.testing.assert_close(after.gep, wanted)
    torch.testing.assert_close(after.gepc, wanted + before / 2, rtol=1e-4, atol=1e-4)


def test_a_model_at_the_means_learns_from_both_heads():
    """GEP is not stuck where its last weights are zero."""
    model = model_of(gene_bias=True)
    model.start_at_means(np.full(N_GENES, 25.0))
    packed = packed_of(random_cells([9]))
    prediction = model(packed, torch.arange(1, 10), torch.zeros(9, dtype=torch.long))
    squared_errors(prediction, torch.arange(9.0)).sum().backward()
    for last in (model.decoder.fc[-1].weight, model.mvc_decoder.W.weight):
        assert last.grad.abs().max() > 0


def test_no_bias_by_recipe():
    model = Pretrainer(config())
    before = model.mvc_decoder.W.weight.clone()
    model.start_at_means(np.ones(N_GENES))
    assert torch.equal(model.mvc_decoder.W.weight, before)
    assert not any("gene_bias" in name for name in model.state_dict())


def test_squared_errors():
    prediction = (torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    model = Pretrainer(config())
    out = model(packed_of([[(1, 2)]])._replace(values=torch.tensor([0.0, -1.0])), torch.tensor([1]), torch.tensor([0]))
    assert squared_errors(type(out)(*prediction), torch.tensor([3.0, 4.0])).tolist() == [8.0, 25.0]


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    model = Pretrainer(config(dropout=0.5)).double()
    packed = packed_of(random_cells([10]))
    ask = everywhere(packed)
    assert not torch.equal(model(packed, *ask).gep, model(packed, *ask).gep)
    model.eval()
    assert torch.equal(model(packed, *ask).gep, model(packed, *ask).gep)


def test_parameter_counts_of_the_reference():
    """The encoder of 12 layers of 512 has 18.9 million parameters (REFERENCE)."""
    shape = {"n_layers": 12, "d_model": 512, "n_heads": 8, "d_ff": 512}
    model = Pretrainer(ModelConfig(10, **shape))
    layers = sum(p.numel() for p in model.transformer_encoder.parameters())
    assert round(layers / 1e6, 1) == 18.9
    counts = parameter_counts(model)
    assert counts["embedding"] == 12 * 512
    assert counts["total"] - counts["embedding"] == counts["non_embedding"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"n_heads": 3}, "model.n_heads"), ({"dropout": 1.0}, "model.dropout"), ({"n_layers": 0}, "model.n_layers")],
)
def test_impossible_shapes_name_the_key(changes, key):
    with pytest.raises(InputError, match=key):
        config(**changes)


def test_config_round_trip():
    assert ModelConfig(**config(norm="pre", gene_bias=True).to_dict()) == config(norm="pre", gene_bias=True)
