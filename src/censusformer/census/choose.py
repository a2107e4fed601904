"""Which samples become training and test data, and how their order is cut into chunks: pure functions, no I/O."""

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from censusformer.errors import InputError

#: Donor names that stand for nobody, or for several people (compared without case and surrounding blanks).
UNNAMED_DONORS = frozenset({"", "na", "nan", "pooled", "unknown"})

_KEY_BITS = 256


@dataclass(frozen=True)
class Sample:
    """One donor of one dataset.

    Attributes
    ----------
    persons
        The people whose cells these are (see `persons`); nobody may stand in both test and training.
    """

    dataset_id: str
    donor_id: str
    n_cells: int
    persons: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The sample's name in every table."""
        return f"{self.dataset_id}:{self.donor_id}"


@dataclass(frozen=True)
class Rules:
    """The keys of `census` that decide which samples are chosen; see `choose`."""

    seed: int = 0
    max_cells: int | None = None
    test_cells: int = 0
    test_datasets: tuple[str, ...] = ()
    min_cells_per_sample: int = 50
    max_cells_per_sample: int = 30_000
    unnamed_donors: bool = False


@dataclass(frozen=True)
class Choice:
    """What became of a sample: `status` is train, test or out; `reason` says why it is out."""

    sample: Sample
    status: str
    reason: str = ""


def is_unnamed(donor_id: str) -> bool:
    """Whether a donor's name stands for nobody in particular."""
    return donor_id.strip().casefold() in UNNAMED_DONORS


def order_key(sample: Sample, seed: int) -> int:
    """A sample's place in the order: sha256 of `{seed}:{dataset_id}:{donor_id}` as a number.

    It depends on nothing but the sample itself, so that a new Census release moves no other sample.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{sample.name}".encode()).digest(), "big")


def persons(
    samples: Sequence[tuple[str, str]], collections: Sequence[str], known: Sequence[Iterable[str]]
) -> list[frozenset[str]]:
    """The people behind each sample.

    Parameters
    ----------
    samples
        (dataset_id, donor_id) of each sample.
    collections
        The collection that each sample's dataset belongs to.
    known
        The values of `obs.person` among each sample's cells; none, or unnamed ones, where the census does not say.

    Returns
    -------
    The known persons of the sample; else those of the donor of the same name in the same collection; else
    `{collection}:{donor_id}`, so that donors of one name in one collection count as one person.
    """
    named = [frozenset(person for person in people if not is_unnamed(person)) for people in known]
    donors = [(collection, donor) for collection, (_, donor) in zip(collections, samples, strict=True)]
    same_donor: dict[tuple[str, str], frozenset[str]] = {}
    for donor, people in zip(donors, named, strict=True):
        same_donor[donor] = same_donor.get(donor, frozenset()) | people
    return [
        people or same_donor[donor] or frozenset({":".join(donor)}) for donor, people in zip(donors, named, strict=True)
    ]


def choose(samples: Iterable[Sample], rules: Rules) -> list[Choice]:
    """Choose whole samples for test and training.

    The order is by `order_key`. Test samples are all of `rules.test_datasets`, then from the end of the order,
    skipping a sample that would take the test set over min(test_cells, a tenth of all eligible cells). Training
    samples are taken from the start until the next one would take test and training together over `max_cells`. So a
    larger cap keeps every sample and the same test set.

    Returns
    -------
    Every sample, in the order, with its status and the reason why it is left out.

    Raises
    ------
    InputError
        If no sample is left for test (unless `test_cells` is 0) or for training, if the test set is over half of
        `max_cells`, or if a test dataset has no eligible sample; the message says which key to change.
    """
    order = sorted(samples, key=lambda sample: order_key(sample, rules.seed))
    _check_names(order)
    unfit = {sample.name: _unfit(sample, rules) for sample in order}
    eligible = [sample for sample in order if not unfit[sample.name]]
    if not eligible:
        raise InputError(_nothing_eligible(order, unfit))
    test = _test_samples(eligible, rules)
    tested = frozenset().union(*(sample.persons for sample in test))
    apart = [sample for sample in eligible if sample not in test and not sample.persons & tested]
    train = set(_training_samples(apart, _cells(test), rules))
    return [_judge(sample, unfit[sample.name], test, train, tested) for sample in order]


def left_out(choices: Iterable[Choice]) -> list[tuple[str, int, int]]:
    """(reason, samples, cells) for each reason why samples are out, the most samples first."""
    out = [choice for choice in choices if choice.status == "out"]
    samples = Counter(choice.reason for choice in out)
    cells: Counter[str] = Counter()
    for choice in out:
        cells[choice.reason] += choice.sample.n_cells
    return sorted(((reason, n, cells[reason]) for reason, n in samples.items()), key=lambda row: (-row[1], row[0]))


def chunks(samples: Sequence[Sample], seed: int, target: int) -> list[list[Sample]]:
    """Cut the order into chunks of whole samples, each of about `target` cells.

    The boundaries must not move when a sample comes or goes, so they cannot come from running totals. They come from
    a binary tree over the samples' order keys, whose nodes split at fixed places: a node becomes two only where both
    halves reach 0.6 of the target; a lighter half joins the chunk beside it. Adding a sample therefore replaces one
    chunk by at most two, and taking one away two by one: a node's weight decides only whether the two chunks at its
    own middle stand apart. Four in five chunks hold 0.65 to 1.6 times the target; a lighter one than 0.6 is the only
    one. A sample larger than the target is a chunk of its own.

    Parameters
    ----------
    samples
        Any samples; their order here does not matter.
    target
        `chunk.cells`.

    Returns
    -------
    The chunks in the order of their first samples, the samples of each in the order.
    """
    order = sorted(samples, key=lambda sample: order_key(sample, seed))
    small = [sample for sample in order if sample.n_cells <= target]
    spans = _spans(
        [order_key(sample, seed) for sample in small], [sample.n_cells for sample in small], least=0.6 * target
    )
    cut = [small[start:stop] for start, stop in spans] + [[sample] for sample in order if sample.n_cells > target]
    return sorted(cut, key=lambda chunk: order_key(chunk[0], seed))


def training_chunks(choices: Sequence[Choice], seed: int, target: int) -> list[list[Sample]]:
    """The chunks of the training samples.

    The boundaries are those of all samples that a cap without end would choose, cut off where the cap ends; a larger
    cap refills the last chunk and adds new ones.
    """
    apart = [choice for choice in choices if choice.status == "train" or choice.reason == OVER_CAP]
    chosen = {choice.sample for choice in apart if choice.status == "train"}
    cut = chunks([choice.sample for choice in apart], seed, target)
    kept = [[sample for sample in chunk if sample in chosen] for chunk in cut]
    return [chunk for chunk in kept if chunk]


def held_out_chunks(choices: Sequence[Choice], seed: int, target: int) -> list[list[Sample]]:
    """The chunks of the test samples, apart from training's: no cap touches them."""
    return chunks([choice.sample for choice in choices if choice.status == "test"], seed, target)


OVER_CAP = "max_cells is reached"


def _cells(samples: Iterable[Sample]) -> int:
    return sum(sample.n_cells for sample in samples)


def _check_names(order: Sequence[Sample]) -> None:
    for name, times in Counter(sample.name for sample in order).items():
        if times > 1:
            raise InputError(f"{times} samples are called '{name}': leave colons out of dataset ids or donors")


def _unfit(sample: Sample, rules: Rules) -> str:
    if is_unnamed(sample.donor_id) and not rules.unnamed_donors:
        return "the donor is not known, or several people"
    if sample.n_cells < rules.min_cells_per_sample:
        return f"fewer than {rules.min_cells_per_sample} cells"
    if sample.n_cells > rules.max_cells_per_sample:
        return f"more than {rules.max_cells_per_sample} cells"
    return ""


def _nothing_eligible(order: Sequence[Sample], unfit: dict[str, str]) -> str:
    reasons = ", ".join(f"{reason} ({n})" for reason, n in Counter(unfit[s.name] for s in order).most_common())
    return (
        f"none of the {len(order)} samples that census.filter selects can be used: {reasons}. Change census.filter, "
        "census.min_cells_per_sample, census.max_cells_per_sample or census.unnamed_donors"
    )


def _test_samples(eligible: Sequence[Sample], rules: Rules) -> set[Sample]:
    for dataset in rules.test_datasets:
        if dataset not in {sample.dataset_id for sample in eligible}:
            raise InputError(f"census.test_datasets: '{dataset}' has no eligible sample among those selected")
    test = [sample for sample in eligible if sample.dataset_id in rules.test_datasets]
    limit = min(rules.test_cells, _cells(eligible) // 10)
    total = _cells(test)
    for sample in reversed(eligible):
        if sample.dataset_id not in rules.test_datasets and total + sample.n_cells <= limit:
            test.append(sample)
            total += sample.n_cells
    _check_test(test, eligible, limit, rules)
    return set(test)


def _check_test(test: Sequence[Sample], eligible: Sequence[Sample], limit: int, rules: Rules) -> None:
    if rules.test_cells == 0:
        return
    if not test:
        smallest = min(sample.n_cells for sample in eligible)
        raise InputError(
            f"no sample is left for the test set: it may hold {limit} cells (the smaller of census.test_cells = "
            f"{rules.test_cells} and a tenth of the {_cells(eligible)} eligible cells), and the smallest sample has "
            f"{smallest}. Raise census.test_cells, widen census.filter, lower census.min_cells_per_sample, name "
            "census.test_datasets, or set census.test_cells to 0 for a run without test samples"
        )
    if rules.max_cells is not None and _cells(test) > rules.max_cells / 2:
        raise InputError(
            f"the test set of {_cells(test)} cells is over half of census.max_cells = {rules.max_cells}: raise "
            "census.max_cells, lower census.test_cells, or name fewer census.test_datasets"
        )


def _training_samples(apart: Sequence[Sample], n_test: int, rules: Rules) -> list[Sample]:
    cap = float("inf") if rules.max_cells is None else rules.max_cells - n_test
    totals = accumulate(sample.n_cells for sample in apart)
    train = [sample for sample, total in zip(apart, totals, strict=True) if total <= cap]
    if not train:
        first = f"the first sample in the order has {apart[0].n_cells} cells" if apart else "all belong to the test set"
        raise InputError(
            f"no sample is left for training: census.max_cells = {rules.max_cells}, of which {n_test} are test cells; "
            f"{first}. Raise census.max_cells, lower census.max_cells_per_sample, or name fewer census.test_datasets"
        )
    return train


def _judge(sample: Sample, unfit: str, test: set[Sample], train: set[Sample], tested: frozenset[str]) -> Choice:
    if unfit:
        return Choice(sample, "out", unfit)
    if sample in test:
        return Choice(sample, "test")
    if sample in train:
        return Choice(sample, "train")
    return Choice(sample, "out", "the person is in the test set" if sample.persons & tested else OVER_CAP)


def _spans(keys: Sequence[int], weights: Sequence[int], least: float) -> list[tuple[int, int]]:
    """Spans (start, stop) of sorted keys; see `chunks`."""
    sums = [0, *accumulate(weights)]

    def cut(start: int, stop: int, prefix: int, bit: int) -> list[tuple[int, int]]:
        """The spans of the keys start..stop, which share all bits above `bit`."""
        if stop - start <= 1 or bit < 0:
            return [(start, stop)] if stop > start else []
        half = prefix | 1 << bit
        middle = bisect_left(keys, half, start, stop)
        left, right = cut(start, middle, prefix, bit - 1), cut(middle, stop, half, bit - 1)
        if left and right and min(sums[middle] - sums[start], sums[stop] - sums[middle]) < least:
            return [*left[:-1], (left[-1][0], right[0][1]), *right[1:]]
        return left + right

    return cut(0, len(keys), 0, _KEY_BITS - 1)
