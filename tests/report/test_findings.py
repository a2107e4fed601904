import math

import numpy as np
import pandas as pd
import pytest

from censusformer.report.findings import (
    certainty,
    count,
    duels,
    duration,
    head_sentences,
    headline,
    learned,
    listed,
    percent,
)


def plain(texts) -> list[str]:
    """Texts with ordinary blanks."""
    return [text.replace("\u00a0", " ") for text in texts]


def errors(model, baselines, floor=40.0) -> pd.DataFrame:
    rows = []
    for head, error in model.items():
        rows.append((head, "model", error))
        rows += [(head, name, value) for name, value in {**baselines, "tie_floor": floor}.items()]
    table = pd.DataFrame(rows, columns=["head", "predictor", "mse"])
    return table.assign(mask_ratio=np.nan, n=10)


HEADLINES = [
    (1.0, 2.0, "the model beats every baseline with both heads"),
    (150.0, 150.0, "ridge regression beats the model with both heads"),
    (1.0, 150.0, "the model beats every baseline with GEP; ridge regression beats the model with GEPC"),
    (300.0, 1.0, "ridge regression and the constant beat the model with GEP; the model beats every baseline with GEPC"),
    (144.0, 1.0, "ridge regression beats the model with GEP; the model beats every baseline with GEPC"),
]


def duel_of(gep, gepc, *, certain):
    """Both heads beside two baselines; with intervals that leave 0 out, or with none."""
    baselines = {"constant": 204.0, "ridge": 144.0}
    keys = [(head, name) for head in ("gep", "gepc") for name in baselines] if certain else []
    return duels(errors({"gep": gep, "gepc": gepc}, baselines), dict.fromkeys(keys, (3.0, 9.0)))


@pytest.mark.parametrize(("gep", "gepc", "said"), HEADLINES)
def test_the_headline_names_the_winner(gep, gepc, said):
    found = duel_of(gep, gepc, certain=True)
    assert headline(found, "test") == f"On held-out samples, {said}."
    assert headline(found, "valid").startswith("On validation cells (no sample was held out), ")


@pytest.mark.parametrize(("gep", "gepc", "said"), HEADLINES)
def test_without_intervals_nobody_beats_anybody(gep, gepc, said):
    softer = said.replace("beats", "is ahead of").replace("beat ", "are ahead of ")
    assert headline(duel_of(gep, gepc, certain=False), "test") == f"On held-out samples, {softer}."


def test_a_model_without_error_wins_nothing():
    said = headline(duel_of(math.nan, 1.0, certain=True), "test")
    assert "ridge regression and the constant beat the model with GEP" in said


def test_many_winners_are_counted():
    found = duels(errors({"gep": 300.0}, {"constant": 204.0, "gene_mean": 160.0, "ridge": 144.0}), {})
    assert headline(found, "test") == (
        "On held-out samples, ridge regression and 2 more baselines are ahead of the model with GEP."
    )


def test_the_distance_and_the_reducible_error():
    (duel,) = duels(errors({"gep": 90.0}, {"ridge": 100.0}, floor=50.0), {})
    assert (duel.gain, duel.removed) == (pytest.approx(0.1), pytest.approx(0.2))
    (said,) = plain(head_sentences([duel]))
    assert said == "GEP: the error is 90.0, 10.0 % below ridge regression (100.0), the best baseline."


@pytest.mark.parametrize(
    ("gep", "low", "said"),
    [
        (100.0, 3.0, "It learned what genes say of each other: it passes every baseline"),
        (145.0, 3.0, "It learned what genes say of each other, but does not surely pass ridge regression."),
        (158.0, 3.0, "It learned what genes say of each other, but does not surely pass ridge regression."),
        (158.0, -1.0, "It learned nothing of use"),
        (300.0, -3.0, "It learned nothing of use"),
    ],
)
def test_what_was_learned_is_said_at_a_glance(gep, low, said):
    baselines = {"constant": 204.0, "gene_mean": 160.0, "ridge": 144.0}
    table = errors({"gep": gep}, baselines)
    found = duels(table, {("gep", name): (low if gep < value else -9, 9 if low > 0 else 1) for name, value in
                          baselines.items()})  # fmt: skip
    assert learned(found).startswith(said)
    assert learned(duels(table, {})).endswith("That rests on too few samples for intervals.")


def test_passing_some_means_alone_is_not_called_more():
    table = errors({"gep": 157.0}, {"constant": 204.0, "gene_mean": 160.0, "gene_mean_shift": 155.0, "ridge": 144.0})
    found = duels(table, dict.fromkeys([("gep", "constant"), ("gep", "gene_mean")], (1.0, 9.0)))
    assert learned(found) == (
        "It learned more than the mean of each gene, but does not surely pass the gene mean with the cell's shift and "
        "ridge regression."
    )


def test_heads_that_learned_different_things_are_told_apart():
    table = errors({"gep": 100.0, "gepc": 300.0}, {"constant": 204.0, "gene_mean": 160.0})
    found = duels(table, dict.fromkeys([("gep", "constant"), ("gep", "gene_mean")], (3.0, 9.0)))
    assert learned(found).startswith("GEP: it learned what genes say of each other")
    assert "GEPC: it learned nothing of use" in learned(found)


def test_a_difference_is_certain_where_its_interval_leaves_0_out():
    table = errors({"gep": 99.0}, {"gene_mean": 120.0, "ridge": 100.0})
    assert certainty(duels(table, {})).startswith("There are too few samples")
    assert "leaves 0 out" in certainty(duels(table, {("gep", "gene_mean"): (10.0, 30.0)}))
    found = duels(table, {("gep", "gene_mean"): (10.0, 30.0), ("gep", "ridge"): (-3.0, 5.0)})
    assert [duel.uncertain for duel in found] == [False, True]
    assert "holds 0" in certainty(found)
    (said,) = plain(head_sentences(found))
    assert "1.0 % below ridge regression (100.0; 95 % interval of the difference -3.0 to 5.0), the best" in said
    assert said.endswith("17.5 % below the mean of each gene (120.0; 95 % interval of the difference 10.0 to 30.0).")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (12.4, "12 s"), (59.9, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_numbers_with_their_nouns():
    assert plain(map(percent, (0.1234, 0.0001, 0, 1))) == ["12.3 %", "< 0.1 %", "0.0 %", "100.0 %"]
    assert [count(1, "cell"), count(5120, "cell"), count(0, "cell")] == ["1 cell", "5,120 cells", "0 cells"]
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
