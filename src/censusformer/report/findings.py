"""The sentences of the page, written from numbers: they say who wins, whoever it is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from censusformer.report.tables import BASELINES, HEADS

NAMES = {
    "constant": "the constant",
    "gene_mean": "the mean of each gene",
    "gene_mean_shift": "the gene mean with the cell's shift",
    "gene_dataset_mean": "the gene mean within its data set",
    "ridge": "ridge regression",
    "model": "the model",
    "tie_floor": "the floor of random ties",
}
LABELS = {
    "constant": "Constant",
    "gene_mean": "Mean of each gene",
    "gene_mean_shift": "Gene mean + cell's shift",
    "gene_dataset_mean": "Gene mean of data set",
    "ridge": "Ridge regression",
    "model": "Model",
    "tie_floor": "Floor of random ties",
}
HEAD_NAMES = {"gep": "GEP", "gepc": "GEPC", "": ""}


@dataclass(frozen=True)
class Duel:
    """The model beside one baseline on the same masked positions, in mean squared error (bins squared).

    Parameters
    ----------
    floor
        The error that random ties alone put under any predictor; NaN where it is not known.
    low, high
        95 % interval of the baseline's error less the model's, over samples drawn anew; NaN where there is none.
    """

    head: str
    baseline: str
    model: float
    other: float
    floor: float
    low: float
    high: float

    @property
    def wins(self) -> bool:
        """Whether the model's error is below the baseline's; a tie or a missing error is no win."""
        return self.model < self.other

    @property
    def gain(self) -> float:
        """By how much the model's error is below the baseline's, as a share of the latter; negative where it loses."""
        return 1 - self.model / self.other

    @property
    def removed(self) -> float:
        """The share that the model removes of the baseline's reducible error, which is what lies above the floor."""
        return (self.other - self.model) / (self.other - self.floor)

    @property
    def certain(self) -> bool:
        """Whether there is an interval, and it leaves 0 out."""
        return self.low > 0 or self.high < 0

    @property
    def uncertain(self) -> bool:
        """Whether other samples might turn the outcome round: the interval of the difference holds 0."""
        return self.low <= 0 <= self.high


def duels(table: pd.DataFrame, intervals: Mapping[tuple[str, str], tuple[float, float]]) -> list[Duel]:
    """Every baseline beside the model, by head, over all mask ratios.

    Parameters
    ----------
    table
        From `tables.errors`.
    intervals
        By head and baseline, the 95 % interval of the baseline's error less the model's, where there is one.
    """
    rows = table[table["mask_ratio"].isna()].set_index(["head", "predictor"])
    found = []
    for head in (head for head in HEADS if (head, "model") in rows.index):
        model = float(rows.loc[(head, "model"), "mse"])
        floor = float(rows["mse"].get((head, "tie_floor"), float("nan")))
        for baseline in (name for name in BASELINES if (head, name) in rows.index):
            other = float(rows.loc[(head, baseline), "mse"])
            interval = intervals.get((head, baseline), (math.nan, math.nan))
            found.append(Duel(head, baseline, model, other, floor, *interval))
    return found


def headline(found: Sequence[Duel], split: str) -> str:
    """One sentence: does the model beat the baselines, with which head, and if not, who beats it."""
    where = "On held-out samples" if split == "test" else "On validation cells (no sample was held out)"
    outcome: dict[str, list[str]] = {}
    for head in dict.fromkeys(duel.head for duel in found):
        outcome.setdefault(_outcome([duel for duel in found if duel.head == head]), []).append(HEAD_NAMES[head])
    parts = [
        f"{said} with {heads[0] if len(outcome) > 1 or len(heads) == 1 else 'both heads'}"
        for said, heads in outcome.items()
    ]
    return f"{where}, {'; '.join(parts)}."


def _outcome(found: list[Duel]) -> str:
    """Who is better with one head; `beats` is kept for differences whose interval leaves 0 out."""
    better = sorted((duel for duel in found if not duel.wins), key=lambda duel: duel.other)
    if not better:
        certain = all(duel.certain for duel in found)
        return f"the model {'beats' if certain else 'is ahead of'} every baseline"
    names = [NAMES[duel.baseline] for duel in better]
    names = names if len(names) < 3 else [names[0], f"{len(names) - 1} more baselines"]
    certain = all(duel.certain for duel in better)
    verb = (
        ("beats" if len(better) == 1 else "beat")
        if certain
        else ("is ahead of" if len(better) == 1 else "are ahead of")
    )
    return f"{listed(names)} {verb} the model"


def learned(found: Sequence[Duel]) -> str:
    """Say at a glance what was learned, by the baselines that the model surely passes with one head or the other.

    The mean of each gene is known without any cell's other genes, and ridge regression reads these linearly. Without
    intervals the errors alone decide, and the sentence says so.
    """
    known = any(math.isfinite(duel.low) for duel in found)
    passed = {
        head: {duel.baseline for duel in found if duel.head == head and duel.wins and (duel.certain or not known)}
        for head in dict.fromkeys(duel.head for duel in found)
    }
    said: dict[str, list[str]] = {}
    for head, names in passed.items():
        said.setdefault(_level(names, {duel.baseline for duel in found if duel.head == head}), []).append(head)
    one = len(said) == 1
    parts = [what if one else f"{HEAD_NAMES[heads[0]]}: {what[0].lower()}{what[1:]}" for what, heads in said.items()]
    return " ".join(parts) + ("" if known else " That rests on too few samples for intervals.")


def _level(passed: set[str], measured: set[str]) -> str:
    if not passed or passed == {"constant"}:
        return "It learned nothing of use: the mean of each gene, which needs no model, is as good or better."
    if passed == measured:
        return "It learned what genes say of each other: it passes every baseline, the linear one included."
    if "gene_mean" not in passed:
        return "It learned little: it does not surely pass the mean of each gene, which needs no model."
    better = [name for name in BASELINES if name in measured - passed]
    what = "what genes say of each other" if better == ["ridge"] else "more than the mean of each gene"
    return f"It learned {what}, but does not surely pass {listed([NAMES[name] for name in better])}."


def head_sentences(found: Sequence[Duel]) -> list[str]:
    """For each head its error and its distance from the best baseline and from the gene mean."""
    heads = dict.fromkeys(duel.head for duel in found)
    return [_head_sentence([duel for duel in found if duel.head == head]) for head in heads]


def _head_sentence(found: list[Duel]) -> str:
    best = min(found, key=lambda duel: duel.other)
    text = f"{HEAD_NAMES[best.head]}: the error is {best.model:.1f}, {_distance(best)}, the best baseline"
    mean = next((duel for duel in found if duel.baseline == "gene_mean"), best)
    also = "" if mean is best else f"{_distance(mean)}."
    if best.wins:
        return f"{text}, and {also}" if also else f"{text}."
    return f"{text}: the baseline is better. It is {also}" if also else f"{text}: the baseline is better."


def _distance(duel: Duel) -> str:
    word = "below" if duel.wins else "above"
    interval = f"; 95 % interval of the difference {duel.low:.1f} to {duel.high:.1f}" if math.isfinite(duel.low) else ""
    return f"{percent(abs(duel.gain))} {word} {NAMES[duel.baseline]} ({duel.other:.1f}{interval})"


def certainty(found: Sequence[Duel]) -> str:
    """What is known of how far chance could have decided."""
    if not any(math.isfinite(duel.low) for duel in found):
        return "There are too few samples for intervals: a small difference may be chance."
    if any(duel.uncertain for duel in found):
        return "Uncertain: the 95 % interval of the difference, over samples drawn anew, holds 0."
    return "Each 95 % interval of a difference, over samples drawn anew, leaves 0 out."


def percent(share: float) -> str:
    """Write a share as a percentage, `< 0.1 %` where it would read as nothing; no line breaks inside."""
    return "<\u00a00.1\u00a0%" if 0 < share < 0.0005 else f"{100 * share:.1f}\u00a0%"


def count(n: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: `1 sample`, `5,120 cells`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """Write `a`, `a and b`, or `a, b and c`."""
    return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), words[-1]])


def duration(seconds: float) -> str:
    """Write `0.4 s`, `12 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
