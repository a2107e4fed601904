"""Small runs of the workflow that are disturbed, run again, and compared file by file with an undisturbed run."""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

PARTS = ("Snakefile", "config.yaml", "presets", "workflow", "envs", "profiles", "slurm", "src")

#: A demo of two chunks of training cells, one of test cells, and 16 steps.
SETTINGS = {
    "census": {"max_cells": 1000, "test_cells": 240},
    "chunk": {"cells": 500},
    "hvg": {"n_top": 200},
    "train": {"epochs": 2, "max_steps": 16},
    "mask": {"ratios": [0.5]},
    "evaluate": {"ratios": [0.5], "max_cells": 400},
    "embeddings": {"cells": 0},
    "execution": {"checkpoint_minutes": 0.002, "num_workers": 0, "log_every": 4},
}
#: Clocks are no results. TileDB names fragments by the clock; what was written shows in the chunks read from it.
CLOCKS = ("seconds", "train_seconds", "cells_per_second", "peak_memory_bytes")
NO_RESULT = re.compile(r"(^|/)(logs|benchmarks|tensorboard|work[^/]*)/|^census/demo/|^\.|/\.")
CLOCKS_IN_PAGE = re.compile(
    r'(?s)<section id="resources".*?</section>|&#34;(?:' + "|".join(CLOCKS) + r")&#34;: [\d.]+|Training took[^<]*"
)
STEP = re.compile(r"-m\x00censusformer\x00(\w+)")


@dataclass
class Outcome:
    """What became of the tries of one fault: a row of the table in docs/reliability.md."""

    fault: str
    tries: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)

    def count(self, how):
        self.ended[how] = self.ended.get(how, 0) + 1

    def row(self):
        how = ", ".join(f"{name} {n}" for name, n in sorted(self.ended.items()))
        return f"| {self.fault} | {self.tries} | {len(self.lost)} | {len(self.wrong)} | {how} |"


class Workplace:
    """A copy of the project in which Snakemake runs."""

    def __init__(self, folder, root=None, settings=SETTINGS):
        self.folder, self.settings = Path(folder), settings
        for part in PARTS if root else ():
            source = root / part
            if source.is_dir():
                shutil.copytree(source, self.folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, self.folder / part)

    @property
    def results(self):
        return self.folder / "results"

    def copy(self, folder, *, results=True):
        """Another workplace with the same results; Snakemake's records of them go along."""
        left_out = shutil.ignore_patterns(*([] if results else ["results", ".snakemake"]))
        shutil.copytree(self.folder, folder, symlinks=True, ignore=left_out)  # with __pycache__: what numba compiled
        return Workplace(folder, settings=self.settings)

    def start(self, *args):
        """Start Snakemake in a process group of its own."""
        (self.folder / "overrides.yaml").write_text(yaml.safe_dump(self.settings))
        command = [sys.executable, "-m", "snakemake", *args, "--cores", "2", "--configfile", "overrides.yaml"]
        options = {
            "stderr": subprocess.STDOUT,
            "env": {**os.environ, "OMP_NUM_THREADS": "1"},
            "start_new_session": True,
        }
        with (self.folder / "output.txt").open("w") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, **options)

    def run(self, *args):
        """Run Snakemake to its end; (return code, output)."""
        code = self.start(*args).wait()
        return code, self.output()

    def output(self):
        return (self.folder / "output.txt").read_text(errors="replace")

    def unlock(self):
        """Remove the lock of a Snakemake that is no more."""
        if any((self.folder / ".snakemake/locks").glob("*")):
            command = [sys.executable, "-m", "snakemake", "--unlock", "--cores", "1"]
            subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def again(self, *args):
        """What a user does after a crash: unlock, run once more. Returns (return code, output)."""
        self.unlock()
        return self.run(*args)

    def finished(self):
        """{file: (mtime, size)} of what finished jobs left; Snakemake marks the outputs of the others."""
        marked = {path.name for path in (self.folder / ".snakemake/incomplete").rglob("*")}
        found = {}
        for path in files(self.results):
            place = path.relative_to(self.folder)
            names = {base64.b64encode(str(part).encode()).decode() for part in (place, *place.parents)}
            if not names & marked:
                found[str(path.relative_to(self.results))] = (path.stat().st_mtime_ns, path.stat().st_size)
        return found


def files(results):
    """Every file of a results folder that is a result."""
    found = (path for path in sorted(results.rglob("*")) if path.is_file())
    return [path for path in found if not NO_RESULT.search(str(path.relative_to(results)))]


def fingerprints(results):
    """{file: SHA-256 of its content without clock values}."""
    return {str(path.relative_to(results)): hashlib.sha256(content(path)).hexdigest() for path in files(results)}


def content(path):
    """The bytes of a file, without clock values."""
    if path.name == "metrics.csv":
        lines = [line.split(",") for line in path.read_text().splitlines()]
        clock = lines[0].index("seconds")
        return "\n".join(",".join(line[:clock] + line[clock + 1 :]) for line in lines).encode()
    if path.name == "args.json":
        return json.dumps(_without_clocks(json.loads(path.read_text())), sort_keys=True).encode()
    if path.name == "report.html":
        return CLOCKS_IN_PAGE.sub("", path.read_text()).encode()
    if path.name == "last.ckpt":  # its metrics are those of metrics.csv
        return repr(
            {name: value for name, value in _without_clocks(_plain(path)).items() if name != "metrics"}
        ).encode()
    return path.read_bytes()


def _plain(path):
    import torch

    def plain(value):
        if isinstance(value, torch.Tensor):
            return hashlib.sha256(value.numpy().tobytes()).hexdigest()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(torch.load(path, map_location="cpu", weights_only=True))


def _without_clocks(value):
    if isinstance(value, dict):
        return {key: _without_clocks(item) for key, item in value.items() if key not in CLOCKS}
    return [_without_clocks(item) for item in value] if isinstance(value, list) else value


def compare(outcome, workplace, expected, before=None):
    """Note what is missing or was done twice (lost), and what differs (wrong)."""
    found = fingerprints(workplace.results)
    outcome.lost += [f"{name} is missing" for name in expected.keys() - found.keys()]
    outcome.wrong += [f"{name} differs" for name in expected.keys() & found.keys() if expected[name] != found[name]]
    outcome.wrong += [f"{name} is new" for name in found.keys() - expected.keys()]
    after = workplace.finished()
    outcome.lost += [f"{name} was made again" for name, dates in (before or {}).items() if after.get(name) != dates]


def end_well(outcome, workplace, expected, before=None, targets=()):
    """Run again, which must succeed, and compare; `targets` are made beside all else."""
    code, shown = workplace.again("all", *targets)
    if code:
        outcome.lost.append(f"the second run failed:\n{shown[-3000:]}")
    compare(outcome, workplace, expected, before)


def jobs(process):
    """{pid: step} of the steps that run below a Snakemake."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if match := STEP.search("\0".join(child.cmdline())):
                found[child] = match.group(1)
    return found


def kill_group(process):
    """SIGKILL to Snakemake and all jobs at once: the power fails."""
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(below, 20)  # what dies still holds its files


def wait(process, seconds):
    """Whether the process still runs after so many seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def wait_for(condition, seconds=60):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of this size (such as 200k) in a folder; yields a function that mounts it anew with options."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield lambda how: subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
