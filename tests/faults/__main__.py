"""`python -m tests.faults`: all faults, and the table of docs/reliability.md. Names of cases choose some of them."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import cases, network
from .harness import Workplace

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("checkpoint", "damage", "read_only", "two", "disk", "jobs", "groups", "network")


def main():
    """Run the cases asked for and print a row for each; 1 where something was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("cases", nargs="*", default=NAMES, metavar="CASE", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--tries", type=int, default=30, help="moments at which a run is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the damage")
    parser.add_argument("--folder", type=Path, help="where runs lie (default: a temporary folder); failures stay")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="faults"))
    print("| fault | tries | lost | wrong | how it ended |\n|---|---|---|---|---|", flush=True)
    bad = 0
    for outcome in outcomes(args.cases, folder, args.tries, args.seed):
        print(outcome.row(), flush=True)
        for text in (*outcome.lost, *outcome.wrong):
            bad += 1
            print(f"  {text}", file=sys.stderr)
    if not bad and args.folder is None:
        shutil.rmtree(folder)
    return int(bool(bad))


def outcomes(names, folder, tries, seed):
    """One by one, so that a long run shows what it has found."""
    if set(names) & set(NAMES[:-1]):
        yield from _of_runs(names, folder, tries, seed)
    if "network" in names:
        yield from network.all_modes(folder / "network", seed)


def _of_runs(names, folder, tries, seed):
    whole = Workplace(folder / "undisturbed", ROOT)
    expected, seconds = cases.undisturbed(whole)
    again = whole.copy(folder / "again", results=False)  # the second run has what numba compiled, as the disturbed ones
    found, seconds = cases.undisturbed(again)
    assert found == expected, [name for name in expected if found.get(name) != expected[name]]
    print(f"one run: {seconds:.0f} s, {len(expected)} files", file=sys.stderr)

    def start(place):
        return whole.copy(place, results=False)

    def when(n):
        return cases.moments(n, seconds, seed)

    if "checkpoint" in names:
        yield cases.damaged_checkpoint(whole, expected, folder, seed=seed)
    if "damage" in names:
        yield cases.damaged_and_deleted(whole, expected, folder, cases.DAMAGED, seed)
    if "read_only" in names:
        yield cases.read_only(start, expected, folder, when(3))
    if "two" in names:
        yield cases.two_at_once(start, expected, folder, (0, 1, seconds / 2))
    if "disk" in names:
        yield cases.full_disk(start, expected, folder, (100, 6000, 12000, 17000))
    if "jobs" in names:
        yield cases.killed_jobs(start, expected, folder, when(max(tries // 3, 1)))
    if "groups" in names:
        yield cases.killed_groups(start, expected, folder, tries, seconds / 2, seed)


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s in all", file=sys.stderr)
    sys.exit(code)
