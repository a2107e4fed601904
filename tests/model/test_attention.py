"""Attention: all back ends agree with the plain formula in float64, forward and backward."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from censusformer.model import attention
from censusformer.model.attention import choose_backend


def plain(q, k, v, cu_seqlens):
    """softmax(q kᵀ / sqrt(D)) v of each cell, written out in float64."""
    out = []
    for start, stop in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        a, b, c = (x[start:stop].transpose(0, 1) for x in (q, k, v))  # (H, n, D)
        weights = torch.softmax(a @ b.transpose(1, 2) / a.shape[-1] ** 0.5, dim=-1)
        out.append((weights @ c).transpose(0, 1))
    return torch.cat(out)


def inputs(lengths, heads=2, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (4, sum(lengths), heads, width)
    q, k, v, weight = torch.randn(shape, generator=generator, dtype=torch.float64).unbind()
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    return [x.clone().requires_grad_() for x in (q, k, v)], weight, cu_seqlens


def run(function, tensors, weight):
    tensors = [x.detach().clone().requires_grad_() for x in tensors]
    out = function(*tensors)
    (out * weight).sum().backward()
    return [out.detach(), *(x.grad for x in tensors)]


def agree(found, wanted):
    """Within 1e-5 of the size of what is wanted; gradients of cells of one token are zero but for rounding."""
    for one, two in zip(found, wanted, strict=True):
        assert (one.double() - two).norm() <= 1e-5 * two.norm() + 1e-6 * two.numel() ** 0.5


LENGTHS = st.one_of(  # any length, and many cells
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.lists(st.integers(1, 1201), min_size=1, max_size=3),
)


@pytest.mark.parametrize("backend", ["cpu", "padded"])
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 1000))
@example(lengths=[1], seed=0)
@example(lengths=[1201], seed=0)
@example(lengths=[1, 1201, 2], seed=0)
@example(lengths=[1, 2, 3, 40] * 250, seed=0)
def test_back_ends_agree_with_the_plain_formula(backend, lengths, seed):
    tensors, weight, cu_seqlens = inputs(lengths, seed=seed)
    wanted = run(lambda q, k, v: plain(q, k, v, cu_seqlens), tensors, weight)
    exact = run(lambda q, k, v: attention(q, k, v, cu_seqlens, backend), tensors, weight)
    single = run(lambda q, k, v: attention(q, k, v, cu_seqlens, backend), [x.float() for x in tensors], weight.float())
    agree(single, wanted)
    for one, two in zip(wanted, exact, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)


def test_a_cell_does_not_see_another():
    tensors, _, cu_seqlens = inputs([5, 9, 3])
    alone = attention(*(x[5:14] for x in tensors), torch.tensor([0, 9], dtype=torch.int32))
    torch.testing.assert_close(attention(*tensors, cu_seqlens)[5:14], alone)


def test_choice_of_the_back_end():
    assert choose_backend(torch.device("cpu"), torch.float32) == "cpu"
    assert choose_backend(torch.device("cuda"), torch.float32) == "padded"
    assert choose_backend(torch.device("cuda"), torch.bfloat16) in {"varlen", "padded"}


def test_varlen_says_what_it_needs():
    tensors, _, cu_seqlens = inputs([4])
    with pytest.raises(ValueError, match="CUDA"):
        attention(*tensors, cu_seqlens, "varlen")
