"""The faults of a run: each function disturbs runs, has them end, and tells what was lost and what came out wrong."""

import os
import random
import shutil
import signal
import sys
import time

from .harness import Outcome, compare, end_well, fingerprints, jobs, kill_group, small_disk, wait, wait_for

#: {a file that is damaged: what is made from it}
DAMAGED = {
    "census/*.h5ad": "demo/hvg/*.parquet",
    "census/*.counts.parquet": "demo/genes.parquet",
    "demo/chunks/*.parquet": "demo/split/*.parquet",
    "demo/gene_list.parquet": "demo/vocab.json",
    "demo/hvg/*.parquet": "demo/binned/*.h5ad",
    "demo/cells/*.parquet": "demo/split/*.parquet",
    "demo/binned/*.h5ad": "demo/shards/*/*.parquet",
    "demo/split/*.parquet": "demo/shards/*/*.parquet",
    "demo/shards/train/*.parquet": "demo/base/best_model.pt",
    "demo/shards/valid/*.parquet": "demo/base/evaluation/*",
    "demo/vocab.json": "demo/base/best_model.pt",
    "demo/shards.json": "demo/base/best_model.pt",
    "demo/samples.parquet": "demo/base/evaluation/*",
    "demo/base/best_model.pt": "demo/base/evaluation/*",
    "demo/base/evaluation/reconstruction.parquet": "demo/base/report.html",
}
WHOLE_FOLDERS = ("demo/chunks",)  # a list that is missing in it would be missed: the folder is deleted
GOES_ON_FROM = ("last.ckpt", "best_model.pt") * 2  # what an interrupted training reads, cut or with a flipped bit


def undisturbed(workplace):
    """Run from nothing to the end; (expected files, seconds)."""
    started = time.monotonic()
    code, shown = workplace.run()
    assert code == 0, shown[-6000:]
    return fingerprints(workplace.results), time.monotonic() - started


def moments(tries, seconds, seed):
    """So many random moments, one in each equal part of a run's time, in random order."""
    rng = random.Random(seed)
    return rng.sample(found := [(i + rng.random()) / tries * seconds for i in range(tries)], len(found))


def killed_groups(start, expected, folder, tries, longest, seed):
    """SIGKILL to Snakemake and all its jobs, at random moments up to `longest` seconds after each start.

    A run is killed and started again until it ends before the next kill; then its files are compared. What a job had
    finished at any of the kills must be there at the end as it was then.
    """
    outcome, rng, runs = Outcome("SIGKILL to the whole process group"), random.Random(seed), 0
    while outcome.tries < tries:
        workplace, before, runs = start(folder / f"group{runs}"), {}, runs + 1
        process = workplace.start()
        while outcome.tries < tries and wait(process, rng.uniform(1, longest)):
            what = _kill_all(process)
            outcome.tries += 1
            outcome.count(what)
            print(f"{outcome.fault}: try {outcome.tries}, {what}", file=sys.stderr, flush=True)
            before = workplace.finished() | before
            workplace.unlock()
            process = workplace.start()
        if process.wait():
            outcome.lost.append(f"the last start failed:\n{workplace.output()[-3000:]}")
        compare(outcome, workplace, expected, before)
        _clear(outcome, workplace.folder)
    outcome.fault += f" ({runs} runs)"
    return outcome


def killed_jobs(start, expected, folder, when):
    """SIGKILL to one job, the first to be seen after so many seconds; Snakemake lives."""
    outcome = Outcome("SIGKILL to a single job")
    for i, moment in enumerate(when):
        _try_until_killed(outcome, start, expected, folder / f"job{i}", moment, _kill_job)
    return outcome


def _try_until_killed(outcome, start, expected, folder, moment, kill):
    """Where a run ended before the moment came, an earlier one is taken."""
    while True:
        workplace = start(folder)
        process = workplace.start()
        if wait(process, moment) and (what := kill(process)):
            break
        shutil.rmtree(folder)
        moment *= 0.7
    outcome.tries += 1
    outcome.count(what)
    end_well(outcome, workplace, expected, workplace.finished())
    print(f"{outcome.fault}: try {outcome.tries} at {moment:.1f} s, {what}", file=sys.stderr, flush=True)
    _clear(outcome, folder)


def _kill_all(process):
    running = sorted(set(jobs(process).values()))
    kill_group(process)
    return "in " + "+".join(running or ["snakemake alone"])


def _kill_job(process):
    for _ in range(2000):
        if process.poll() is not None:
            return None
        for job, step in jobs(process).items():
            job.send_signal(signal.SIGKILL)
            code = process.wait()
            return f"in {step}" if code else None
        time.sleep(0.01)
    return None


def full_disk(start, expected, folder, sizes):
    """The results lie on a disk that is too small; then on one that is not."""
    outcome = Outcome("full disk")
    for size in sizes:
        workplace = start(folder / f"disk{size}")
        kept = _aside(workplace)
        with small_disk(workplace.results, f"{size}k") as mount:
            _give_back(kept, workplace)
            code, shown = workplace.run()
            outcome.tries += 1
            _must_say(outcome, code, shown, "No space left on device")
            mount("size=1g")
            end_well(outcome, workplace, expected, workplace.finished())
        _clear(outcome, workplace.folder)
    return outcome


def read_only(start, expected, folder, when):
    """A run is killed, its results cannot be written when it is started again; then they can."""
    outcome = Outcome("read-only results folder")
    for i, moment in enumerate(when):
        workplace = start(folder / f"read_only{i}")
        kept = _aside(workplace)
        with small_disk(workplace.results, "1g") as mount:
            _give_back(kept, workplace)
            process = workplace.start()
            if wait(process, moment):
                kill_group(process)
            before = workplace.finished()
            mount("ro")
            code, shown = workplace.again()
            outcome.tries += 1
            _must_say(outcome, code, shown, "cannot be written", "Write-protected output files")
            mount("rw")
            end_well(outcome, workplace, expected, before)
        _clear(outcome, workplace.folder)
    return outcome


def two_at_once(start, expected, folder, waits, *, kill=False):
    """A second Snakemake in the same folder, so many seconds after the first; `kill` then kills a job of the first."""
    outcome = Outcome("two Snakemake processes at once")
    for i, seconds in enumerate(waits):
        workplace = start(folder / f"two{i}")
        first = workplace.start()
        time.sleep(seconds)
        (workplace.folder / "output.txt").rename(workplace.folder / "first.txt")
        second = workplace.start()
        refused = second.wait(), workplace.output()
        if kill:
            _kill_job(first)
        codes = first.wait(), refused[0]
        outcome.tries += 1
        outcome.count(f"{sum(code == 0 for code in codes)} of them ended")
        for code, shown in ((codes[0], (workplace.folder / "first.txt").read_text()), refused):
            if code and not kill and "cannot be locked" not in shown:
                outcome.lost.append(f"it failed without a word on the lock:\n{shown[-2000:]}")
        if "cannot be locked" not in refused[1] and refused[0]:
            outcome.lost.append(f"the second failed without a word on the lock:\n{refused[1][-2000:]}")
        end_well(outcome, workplace, expected, workplace.finished())
        _clear(outcome, workplace.folder)
    return outcome


def damaged_and_deleted(finished, expected, folder, names, seed=0):
    """A file of a finished run is damaged and what follows is made again: it is named; once deleted, all is right.

    Parameters
    ----------
    finished
        A workplace whose run has ended.
    names
        {pattern of a damaged file: pattern of what must be made from it}.
    """
    outcome, rng = Outcome("damaged file in a run"), random.Random(seed)
    for i, (pattern, following) in enumerate(names.items()):
        workplace = finished.copy(folder / f"damaged{i}")
        path = max(workplace.results.glob(pattern), key=lambda path: path.stat().st_size)
        name, how = str(path.relative_to(workplace.results)), damage(path, rng)
        made = [file for file in workplace.results.glob(following) if file != path]
        for file in made:
            file.unlink()
        targets = [str(file.relative_to(workplace.folder)) for file in made]
        code, shown = workplace.run(*targets)
        outcome.tries += 1
        print(f"{outcome.fault}: {name}, {how}: {code}", file=sys.stderr, flush=True)
        if code == 0:
            outcome.count("made no difference")
            shutil.copy2(finished.results / name, path)
        else:
            _must_say(outcome, code, shown, path.name)
            targets = _delete(path, workplace, targets)
        end_well(outcome, workplace, expected, targets=targets)
        _clear(outcome, workplace.folder)
    return outcome


def _delete(path, workplace, targets):
    """What the message says; the targets that a user then names."""
    if str(path.parent.relative_to(workplace.results)) in WHOLE_FOLDERS:
        shutil.rmtree(path.parent)
        return ()  # what stands behind a checkpoint that has to run again cannot be asked for by name
    path.unlink()
    return targets


def damaged_checkpoint(finished, expected, folder, names=GOES_ON_FROM, seed=0):
    """Training is killed and a file of its work folder damaged: it is named; without the folder all is right."""
    outcome, rng = Outcome("damaged checkpoint of an interrupted training"), random.Random(seed)
    for i, name in enumerate(names):
        workplace = finished.copy(folder / f"checkpoint{i}")
        shutil.rmtree(workplace.results / "demo/base")
        before, process = workplace.finished(), workplace.start()
        work = workplace.results / "demo/base/work"
        wait_for(lambda work=work, name=name: _checkpointed(work, name))
        kill_group(process)
        (path,) = work.glob(f"*/{name}")
        how = damage(path, rng, ("cut", "flip")[i // 2 % 2])
        code, shown = workplace.again()
        outcome.tries += 1
        print(f"{outcome.fault}: {name}, {how}: {code}", file=sys.stderr, flush=True)
        if code == 0:
            outcome.count("made no difference")
        else:
            _must_say(outcome, code, shown, f"{path.relative_to(workplace.folder)} is damaged")
            shutil.rmtree(path.parent)
        end_well(outcome, workplace, expected, before)
        _clear(outcome, workplace.folder)
    return outcome


def _checkpointed(work, name):
    """Whether a file stands in a work folder, and a checkpoint that knows of it."""
    dates = {path.name: path.stat().st_mtime_ns for path in work.glob("*/*.*")}
    return name in dates and dates.get("last.ckpt", 0) >= dates[name]


def damage(path, rng, how=None):
    """Cut a file short or flip one of its bits, its dates kept; says which."""
    dates, content = path.stat(), bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    how = how or rng.choice(["cut", "flip"])
    if how == "cut":
        del content[place:]
    else:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    return f"{how} at byte {place}"


def _aside(workplace):
    """Where the results of a start wait until a disk is mounted in their place."""
    kept = workplace.folder / "kept"
    if workplace.results.exists():
        workplace.results.rename(kept)
    return kept


def _give_back(kept, workplace):
    if kept.exists():
        shutil.copytree(kept, workplace.results, dirs_exist_ok=True, copy_function=shutil.copy2)


def _must_say(outcome, code, shown, *words):
    if code == 0:
        outcome.wrong.append(f"it ended as if all were well, without: {words}")
    elif not any(text in shown for text in words) or "Traceback" in shown:
        outcome.wrong.append(f"no clear message ({words}):\n{shown[-3000:]}")
    else:
        outcome.count("stopped with a message")


def _clear(outcome, folder):
    """Keep what went wrong, for a look; remove the rest."""
    if not (outcome.lost or outcome.wrong):
        shutil.rmtree(folder, ignore_errors=True)
