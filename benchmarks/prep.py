"""How fast raw chunks become shards, and in how much memory, beside scanpy and a loop over cells.

    .venv/bin/python benchmarks/prep.py                       # 50,000 cells made of ../shared/blood, 2 to 3 minutes
    .venv/bin/python benchmarks/prep.py --cells 1000000 --json prep.json

Figures are CPU seconds of one thread, so that a machine shared with others changes them little. The usual path reads
its input in its usual form (gzip h5ad), ours in ours, both the same cells in one run.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import logging

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from prep_cells import Made, Real, make_chunks, read_real, write_usual
from prep_steps import PER_CHUNK, STEPS, run_here, run_jobs

ROOT = Path(__file__).resolve().parents[1]
BLOOD = ROOT.parent / "shared" / "blood"
WARM_UP = 300  # cells of a first run, which loads and compiles


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--cells", type=int, default=50_000, help="cells to make of the real ones")
    add("--chunk-cells", type=int, default=20_000, help="cells of a chunk at most, as chunk.cells")
    add("--usual-cells", type=int, default=50_000, help="cells that the usual path gets at most; 0: leave it out")
    add("--repeats", type=int, default=3, help="times that the steps run on the cells that the usual path gets")
    add("--h5ad", type=Path, nargs="+", default=sorted(BLOOD.glob("*.h5ad")), help="real cells (../shared/blood)")
    add("--kept", type=float, nargs=2, default=(0.25, 0.75), metavar=("LOW", "HIGH"), help="share of a cell's counts")
    add("--folder", type=Path, help="where files go and stay; else a temporary folder")
    add("--json", type=Path, help="write the figures to this file, too")
    return parser.parse_args()


def sizes_up_to(points: Sequence[int], chunk_cells: int) -> tuple[list[int], list[int]]:
    """Sizes of chunks that add up to each point in turn, and how many chunks each point takes."""
    sizes, ends, done = [], [], 0
    for point in points:
        while done < point:
            sizes.append(min(chunk_cells, point - done))
            done += sizes[-1]
        ends.append(len(sizes))
    return sizes, ends


def exponent(cells: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log cost over log size, by least squares."""
    return float(np.polyfit(np.log(cells), np.log(seconds), 1)[0])


def scaling(chunks: Sequence[Made], ends: Sequence[int], repeats: int, folder: Path) -> list[dict[str, Any]]:
    """Time the steps on each prefix of the chunks; the median of several runs where they are short."""
    points = []
    for end in ends:
        cells = sum(chunk.n_cells for chunk in chunks[:end])
        runs = [run_here(chunks[:end], folder / f"ours{end}") for _ in range(repeats if cells <= 100_000 else 1)]
        steps = {step: float(np.median([run[step] for run in runs])) for step in STEPS}
        points.append({"cells": cells, "seconds": sum(steps.values()), "steps": steps})
        print(f"{cells:>9,} cells: {points[-1]['seconds']:.2f} s, {cells / points[-1]['seconds']:,.0f} cells/s a core")
    return points


def job_figures(big: Made, small: Made, folder: Path) -> dict[str, dict[str, float]]:
    """Peak memory and time of each step as a job on one whole chunk, and its start-up: a job on very few cells."""
    full, little = run_jobs([big], folder / "job"), run_jobs([small], folder / "job_small")
    return {
        step: {
            "peak_gib": full[step][0]["peak_kib"] / 2**20,
            "wall_s": full[step][0]["wall_s"],
            "cpu_s": full[step][0]["cpu_s"],
            "start_up_s": little[step][0]["cpu_s"],
        }
        for step in STEPS
    }


def differences(chunks: Sequence[Made], ours: Path, selected: dict[str, set[str]]) -> dict[str, int]:
    """Count the genes that the steps selected and scanpy did not, and those of them that no tie at the cut explains."""
    columns = ["sample", "feature_id", "score"]
    tables = [pq.read_table(ours / f"hvg/{chunk.name}.parquet", columns=columns).to_pandas() for chunk in chunks]
    found = {"samples": len(selected), "genes": 0, "other_genes": 0, "other_genes_without_tie": 0}
    for name, table in pd.concat([table.astype({"sample": str}) for table in tables]).groupby("sample"):
        other = ~table["feature_id"].isin(selected[name])
        above = table["score"] > table["score"].min() * (1 + 1e-9)
        found["genes"] += len(table)
        found["other_genes"] += int(other.sum())
        found["other_genes_without_tie"] += int((other & above).sum())
    return found


def compare(chunks: Sequence[Made], warm: Made, ours: Path, folder: Path) -> dict[str, Any]:
    """Run the usual path on the same cells, and compare the genes that both select."""
    from prep_usual import run_usual  # scanpy: not in this process before the steps are timed

    write_usual([warm], folder / "warm.h5ad")
    run_usual(folder / "warm.h5ad", folder / "warm.parquet")
    write_usual(chunks, folder / "usual.h5ad")
    seconds, selected = run_usual(folder / "usual.h5ad", folder / "usual.parquet")
    sizes = {"gzip h5ad": (folder / "usual.h5ad").stat().st_size, "ours": sum(c.raw.stat().st_size for c in chunks)}
    n_cells = sum(chunk.n_cells for chunk in chunks)
    return {
        "cells": n_cells,
        "seconds": sum(seconds.values()),
        "steps": seconds,
        **differences(chunks, ours, selected),
        "bytes_a_cell": {name: size / n_cells for name, size in sizes.items()},
    }


def measure(args: argparse.Namespace, real: Real, folder: Path) -> dict[str, Any]:
    """Make cells, run everything, gather the figures."""
    (warm,) = make_chunks(real, [min(WARM_UP, args.cells)], folder / "warm", seed=1)
    run_here([warm], folder / "warm")
    points = sorted({max(args.cells // 4, 1), max(args.cells // 2, 1), args.cells, min(args.usual_cells, args.cells)})
    sizes, ends = sizes_up_to([point for point in points if point], args.chunk_cells)
    started = time.process_time()
    chunks = list(make_chunks(real, sizes, folder / "cells", kept=tuple(args.kept)))
    print(f"{args.cells:,} cells made in {time.process_time() - started:.0f} s, {len(chunks)} chunks")
    curve = scaling(chunks, ends, args.repeats, folder)
    jobs = job_figures(max(chunks, key=lambda chunk: chunk.n_cells), warm, folder)
    last = curve[-1]
    figures = {
        "cells": args.cells,
        "chunk_cells": args.chunk_cells,
        "kept": list(args.kept),
        "cells_per_s_per_core": last["cells"] / last["seconds"],
        "exponent": exponent(*zip(*((one["cells"], one["seconds"]) for one in curve), strict=True)),
        "peak_gib": max(jobs[step]["peak_gib"] for step in PER_CHUNK),
        "us_a_cell": {step: 1e6 * seconds / last["cells"] for step, seconds in last["steps"].items()},
        "points": curve,
        "jobs": jobs,
    }
    if args.usual_cells:
        end = next(i for i, one in enumerate(curve) if one["cells"] == min(args.usual_cells, args.cells))
        usual = compare(chunks[: ends[end]], warm, folder / f"ours{ends[end]}", folder)
        figures |= {"ratio_vs_scanpy": usual["seconds"] / curve[end]["seconds"], "usual": usual}
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print the figures for a reader."""
    print(f"\n{'step':<10}{'us a cell':>10}{'peak GiB':>10}{'start-up s':>12}   (CPU; peak of a job, one chunk)")
    for step, one in figures["jobs"].items():
        print(f"{step:<10}{figures['us_a_cell'][step]:>10.2f}{one['peak_gib']:>10.2f}{one['start_up_s']:>12.2f}")
    print(f"ours: {figures['cells_per_s_per_core']:,.0f} cells/s a core without start-up, "
          f"exponent {figures['exponent']:.3f}, peak {figures['peak_gib']:.2f} GiB a job")  # fmt: skip
    if usual := figures.get("usual"):
        parts = ", ".join(f"{name} {1e6 * s / usual['cells']:.0f}" for name, s in usual["steps"].items())
        print(f"usual: {usual['cells'] / usual['seconds']:,.0f} cells/s a core; us a cell: {parts}")
        print(f"bytes a cell: {', '.join(f'{name} {size:,.0f}' for name, size in usual['bytes_a_cell'].items())}")
        print(f"{usual['other_genes']} of {usual['genes']:,} genes of {usual['samples']} samples are not scanpy's, "
              f"{usual['other_genes_without_tie']} of them without a tie at the cut")  # fmt: skip
        print(f"ratio {figures['ratio_vs_scanpy']:.1f}")


def main() -> None:
    """Measure, print, and leave nothing behind."""
    args = arguments()
    if not args.h5ad:
        raise SystemExit(f"no real cells: {BLOOD} is absent; name h5ad files with raw counts by --h5ad")
    logging.getLogger("censusformer").setLevel(logging.ERROR)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="prep-"))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        figures = measure(args, read_real(args.h5ad), folder)
    finally:
        if args.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    figures["wall_s"] = time.perf_counter() - started
    show(figures)
    print(f"all in {figures['wall_s']:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
