"""A sample of what `make faults` does: kills, and two Snakemakes at once, over a small demo."""

import shutil

import pytest

from . import cases
from .harness import Workplace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, root):
    """(a finished workplace, its files, the seconds it took)."""
    whole = Workplace(tmp_path_factory.mktemp("faults") / "undisturbed", root)
    return whole, *cases.undisturbed(whole)


def starts(whole):
    return lambda place: whole.copy(place, results=False)


def well(outcome, tries):
    assert outcome.tries == tries
    assert not outcome.lost and not outcome.wrong, [*outcome.lost, *outcome.wrong]


def test_killed_with_all_its_jobs(undisturbed, tmp_path):
    whole, expected, seconds = undisturbed
    well(cases.killed_groups(starts(whole), expected, tmp_path, 2, seconds / 2, seed=1), 2)


def test_two_at_once_and_a_job_that_is_killed(undisturbed, tmp_path):
    """Of a prepared data set: the second Snakemake is refused, a job of the first is killed; then all is made."""
    whole, expected, _ = undisturbed

    def prepared(place):
        workplace = whole.copy(place)
        shutil.rmtree(workplace.results / "demo/base")
        return workplace

    well(cases.two_at_once(prepared, expected, tmp_path, [2], kill=True), 1)


def test_a_damaged_file_is_named_and_made_again(undisturbed, tmp_path):
    whole, expected, _ = undisturbed
    pattern = "demo/split/*.parquet"
    well(cases.damaged_and_deleted(whole, expected, tmp_path, {pattern: cases.DAMAGED[pattern]}), 1)


def test_a_damaged_checkpoint_is_named_and_training_starts_anew_without_it(undisturbed, tmp_path):
    whole, expected, _ = undisturbed
    well(cases.damaged_checkpoint(whole, expected, tmp_path, ["last.ckpt"]), 1)
