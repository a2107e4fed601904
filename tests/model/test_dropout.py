"""Dropout on a CPU: the distribution of `nn.Dropout`, drawn faster."""

import pytest
import torch

from censusformer.model.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_shares_and_scale_are_those_of_dropout(p):
    torch.manual_seed(0)
    n = 400_000
    out = Dropout(p)(torch.ones(n))
    assert out.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)], rel=1e-3)
    error = (p * (1 - p) / n) ** 0.5  # of the share that is dropped
    assert abs(float((out == 0).float().mean()) - p) < 5 * error
    pairs = (out.view(-1, 2) == 0).all(1).float().mean()  # neighbours share a draw, and yet are independent
    assert abs(float(pairs) - p * p) < 5 * (p * p * (1 - p * p) / (n / 2)) ** 0.5


def test_draws_follow_the_seed_and_gradients_the_draw():
    x = torch.randn(7, 3, requires_grad=True)
    torch.manual_seed(1)
    one = Dropout(0.5)(x)
    torch.manual_seed(1)
    torch.testing.assert_close(Dropout(0.5)(x), one, rtol=0, atol=0)
    assert not torch.equal(Dropout(0.5)(x), one)
    one.sum().backward()
    torch.testing.assert_close(x.grad, (one != 0) * 2.0)


@pytest.mark.parametrize("module", [Dropout(0.5).eval(), Dropout(0.0)])
def test_nothing_is_dropped_in_evaluation_or_at_zero(module):
    x = torch.randn(5, 4)
    assert torch.equal(module(x), x)
