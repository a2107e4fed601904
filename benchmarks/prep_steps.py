"""Running the steps of preparation for `prep.py`: in this process for their rates, as jobs for memory and start-up."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from prep_cells import Made

PER_CHUNK = ("count", "hvg", "binning", "split", "tokenize")
STEPS = ("count", "genes", "hvg", "binning", "split", "tokenize", "vocab", "manifest")
SPLITS = ("train", "valid", "test")
Call = tuple[str, list[str]]

# A process reports its own peak: the system's figure for a child starts with the memory of its parent.
JOB = """
import json, sys, time
from censusformer.cli import main
status = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"status": status, "peak_kib": int(peak.split()[1]), "cpu_s": time.process_time()}))
"""


def calls(chunks: Sequence[Made], out: Path) -> Iterator[Call]:
    """Every step that leads from these raw chunks to `shards.json`, with its options, in order."""

    def files(kind: str, suffix: str = "parquet") -> list[str]:
        return [str(out / kind / f"{chunk.name}.{suffix}") for chunk in chunks]

    genes, counts, hvg, cells, split = str(out / "genes.parquet"), *map(files, ("counts", "hvg", "cells", "split"))
    binned, shards = files("binned", "h5ad"), {name: files(f"shards/{name}") for name in SPLITS}
    raw = [str(chunk.raw) for chunk in chunks]
    for i in range(len(chunks)):
        yield "count", ["--chunk", raw[i], "--out", counts[i]]
    yield "genes", ["--counts", *counts, "--out", genes]
    for i, chunk in enumerate(chunks):
        yield "hvg", ["--chunk", raw[i], "--genes", genes, "--out-hvg", hvg[i], "--out-cells", cells[i]]
        about = ["--chunk", raw[i], "--genes", genes, "--hvg", hvg[i], "--cells", cells[i]]
        yield "binning", [*about, "--out", binned[i]]
        yield "split", ["--list", str(chunk.list), "--cells", cells[i], "--out", split[i]]
        outs = [word for name in SPLITS for word in (f"--out-{name}", shards[name][i])]
        yield "tokenize", ["--binned", binned[i], "--split", split[i], "--genes", genes, *outs]
    yield "vocab", ["--genes", genes, "--hvg", *hvg, "--out", str(out / "vocab.json")]
    lists = [word for name in SPLITS for word in (f"--{name}", *shards[name])]
    yield "manifest", [*lists, "--out", str(out / "shards.json")]


def run_here(chunks: Sequence[Made], out: Path) -> dict[str, float]:
    """Run all steps in this process; CPU seconds of each, start-up left out."""
    seconds = dict.fromkeys(STEPS, 0.0)
    for step, options in calls(chunks, out):
        module = importlib.import_module(f"censusformer.steps.{step}")
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        args = parser.parse_args(options)
        started = time.process_time()
        module.run(args)
        seconds[step] += time.process_time() - started
    return seconds


def run_jobs(chunks: Sequence[Made], out: Path) -> dict[str, list[dict[str, float]]]:
    """Run all steps as the rules do, each a process of its own: wall and CPU seconds, peak memory."""
    jobs: dict[str, list[dict[str, float]]] = {step: [] for step in STEPS}
    for step, options in calls(chunks, out):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", JOB, step, *options], capture_output=True, text=True, check=False, env=os.environ
        )
        if done.returncode:
            raise RuntimeError(f"{step}: {done.stderr}")
        about = json.loads(done.stdout.splitlines()[-1])
        if about["status"]:
            raise RuntimeError(f"{step}: {done.stderr}")
        jobs[step].append({**about, "wall_s": time.perf_counter() - started})
    return jobs
