"""Models side by side: their errors, and which differences are noise, in words and tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from censusformer.evaluation import compare
from censusformer.evaluation.compare import Difference, Estimate, Group
from censusformer.report.findings import HEAD_NAMES, count, listed
from censusformer.report.shown import Cell, Table, row, table
from censusformer.report.sweep import METRIC_NAMES, REMOVED, SPLIT_NAMES, shown, shown_difference, text

HEADS = ("gep", "gepc")
ONE_SEED = (
    "No setting was trained with several seeds: intervals are over samples alone, and another seed of the same "
    "model could turn a difference round. Give runs that differ in train.seed to know."
)
VERDICTS = {"better": "more than noise", "noise": "noise", "unknown": "not known"}


@dataclass(frozen=True)
class Comparison:
    """Evaluated models, seeds of one setting gathered.

    Parameters
    ----------
    groups
        In the order given.
    split
        `test`, or `valid` where not all were measured on held-out samples.
    """

    groups: tuple[Group, ...]
    split: str

    @cached_property
    def samples(self) -> list[str]:
        """The samples that all were measured on."""
        return compare.common_samples(self.groups, HEADS[0])

    @cached_property
    def same_values(self) -> bool:
        """Whether all were asked for the same hidden values."""
        return all(compare.same_values(self.groups, head) for head in HEADS)

    @property
    def metric(self) -> str:
        """What decides: the error; the share of the reducible error removed where hidden values differ."""
        return "mse" if self.same_values else REMOVED

    def ranked(self, head: str) -> list[Group]:
        """The groups from the best to the worst."""
        return compare.ranked(self.groups, head, self.metric)

    def differences(self, head: str) -> list[Difference]:
        """Each two groups, the better one first."""
        return compare.all_differences(self.groups, head, self.metric)

    def from_best(self, head: str) -> dict[str, Difference]:
        """Each group less the best one, by name, the best left out."""
        best, *others = self.ranked(head)
        noise = compare.seed_noise(self.groups, head, self.metric)
        return {group.name: compare.difference(group, best, head, self.metric, noise) for group in others}

    def estimate(self, group: Group, head: str, metric: str, predictor: str = "model") -> Estimate:
        """A metric of one group on the samples that all share."""
        noise = compare.seed_noise(self.groups, head, metric)
        return compare.estimate(group, head, metric, noise, predictor=predictor, samples=self.samples)

    @property
    def seeds_known(self) -> bool:
        """Whether a setting was trained with more than one seed."""
        return any(len(group.runs) > 1 for group in self.groups)


def headline(found: Comparison) -> str:
    """Say which model is best with each head, and whether that is more than noise."""
    said: dict[tuple[str, str], list[str]] = {}
    for head in HEADS:
        said.setdefault(_outcome(found, head), []).append(HEAD_NAMES[head])
    parts = [
        f"{what} with {'both heads' if len(heads) == 2 else heads[0]}{rest}" for (what, rest), heads in said.items()
    ]
    return f"On {SPLIT_NAMES[found.split]}, {'; '.join(parts)}."


def _outcome(found: Comparison, head: str) -> tuple[str, str]:
    """What is said before and after the head's name."""
    if len(found.groups) == 1:
        return f"{found.groups[0].name} stands alone", ""
    best, second = (group.name for group in found.ranked(head)[:2])
    verdicts = [difference.verdict for difference in found.from_best(head).values()]
    if len(verdicts) > 1 and set(verdicts) != {"noise"}:
        rivals = len(verdicts) - verdicts.count("worse")
        rest = f"{rivals} of {len(verdicts)} others may be as good" if rivals else "by more than noise"
        return f"{best} is best", f", {rest}"
    if len(verdicts) > 1:
        return "all differences from the best are noise", ""
    return {
        "worse": (f"{best} is better than {second}", ""),
        "noise": (f"the difference between {best} and {second} is noise", ""),
    }.get(verdicts[0], (f"{best} is ahead of {second}", ", which may be noise"))


def lead(found: Comparison) -> str:
    """What was compared, on what."""
    runs = sum(len(group.runs) for group in found.groups)
    settings = compare.differing(found.groups)
    what = f"that differ in {listed(settings)}" if settings else "of the same settings"
    return (
        f"{count(runs, 'model')}, {count(len(found.groups), 'setting')} {what}; compared on "
        f"{SPLIT_NAMES[found.split]} ({count(len(found.samples), 'sample')} that all were measured on) by the "
        f"{METRIC_NAMES[found.metric]}."
    )


def warnings(found: Comparison) -> Iterator[str]:
    """What weakens the comparison."""
    if not found.same_values:
        yield (
            "The models were asked for different hidden values (other genes, bins or cells), so their errors have "
            "different floors: the share of the reducible error that each removes is compared instead."
        )
    if not found.seeds_known:
        yield ONE_SEED
    if len(found.samples) < compare.MIN_SAMPLES:
        few = count(len(found.samples), "sample")
        yield f"{few} in common: too few to draw anew, so intervals are over seeds, if any."
    if found.split == "valid":
        yield "Not all were measured on held-out samples: validation cells, whose samples were trained on, stand in."


def words(found: Comparison) -> str:
    """How to read intervals and verdicts."""
    pairs = len(found.groups) * (len(found.groups) - 1) // 2
    over = "samples drawn anew, the same for both models" + (", and the spread of seeds" if found.seeds_known else "")
    many = f" Of {pairs} pairs and two heads, about {0.1 * pairs:.1f} would leave 0 out by chance." if pairs > 2 else ""
    return (
        f"Intervals: 95 %, over {over}. Noise: the interval of the difference holds 0, so that other samples"
        f"{' or seeds' if found.seeds_known else ''} might turn it round.{many}"
    )


def models_table(found: Comparison) -> Table:
    """A row for each setting: what differs, errors, shares removed, rank correlations, and the ridge beside."""
    settings = compare.differing(found.groups)
    columns = [("Model", "name"), *((key, "n") for key in settings)]
    columns += [(f"{HEAD_NAMES[head]} {name}", "n") for head in HEADS for name in ("error", "removed", "Spearman")]
    columns += [("Ridge", "n"), ("Gene mean", "n")]
    best = {head: found.ranked(head)[0].name for head in HEADS}
    rows = (row(*_model_cells(found, group, settings, best)) for group in found.ranked(HEADS[0]))
    return table(columns, rows, shown=40)


def _model_cells(found: Comparison, group: Group, settings: Sequence[str], best: dict[str, str]) -> Iterator[object]:
    yield group.name
    yield from (text(group.settings.get(key)) for key in settings)
    for head in HEADS:
        mark = "best" if best[head] == group.name else ""
        for metric in ("mse", REMOVED, "spearman_cell"):
            estimate = found.estimate(group, head, metric)
            yield Cell(_error(estimate) if metric == "mse" else shown(estimate.value, metric), mark)
    for baseline in ("ridge", "gene_mean"):
        known = all(run.has(HEADS[0], baseline) for run in group.runs)
        yield f"{found.estimate(group, HEADS[0], 'mse', baseline).value:.1f}" if known else None


def _error(found: Estimate) -> str:
    interval = "" if np.isnan(found.low) else f" ({found.low:.1f} to {found.high:.1f})"
    return f"{found.value:.1f}{interval}"


def pairs_table(found: Comparison) -> Table:
    """A row for each two settings and head: the difference, its interval, and whether it is more than noise."""
    columns = [("Better", "name"), ("than", "name"), ("Head", "name"), ("Difference", "n"), ("It is", "name")]
    rows = (_pair(difference) for head in HEADS for difference in found.differences(head))
    return table(columns, rows, shown=24)


def _pair(found: Difference) -> object:
    said = Cell(VERDICTS[found.verdict], {"better": "win"}.get(found.verdict, ""))
    value = shown_difference(found.estimate, found.metric)
    return row(found.one, found.other, HEAD_NAMES[found.head], value, said, kind=found.head)


def plain(shown_table: Table) -> str:
    """A table as text for a terminal: columns aligned, numbers to the right."""
    lines = [shown_table.head, *(tuple(cell.text for cell in one.cells) for one in shown_table.rows)]
    lines = [tuple(value.replace("\u00a0", " ") for value in line) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            value.rjust(width) if kind == "n" else value.ljust(width)
            for value, width, kind in zip(line, widths, shown_table.kinds, strict=True)
        ).rstrip()
        for line in lines
    )
