"""Scaling curves of a sweep: error against cells, parameters or steps, with what twice as much would bring."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from censusformer.evaluation.compare import common_samples
from censusformer.evaluation.scaling import PowerLaw, fit_power_law
from censusformer.evaluation.scores import METRICS, resample, tie_floor
from censusformer.report.sweep import HEAD_NAMES, HEADS, REMOVED, Setting, Sweep, text

CELL_TYPES = "cell_types"
AXES = {
    "training cells": (("census.max_cells",), ("data", "train_cells")),
    "parameters": (
        ("model.n_layers", "model.d_model", "model.n_heads", "model.d_ff"),
        ("parameters", "non_embedding"),
    ),
    "steps": (("train.epochs", "train.max_steps"), ("result", "steps")),
}
"""By axis: the keys that move along it, and where `args.json` says how far."""


@dataclass(frozen=True)
class Curve:
    """One head's error along an axis, all other settings alike.

    Parameters
    ----------
    axis, head, rest
        `training cells`, `parameters` or `steps`; `gep`, `gepc` or `cell_types`; the other settings that the sweep
        varies, in words.
    x, y
        float (n,): sizes, and errors as means over seeds.
    points
        float (runs, 2): size and error of each run.
    law
        The fit; None with fewer than three sizes.
    squared
        Whether y is the mean squared error (bins²) above the floor of ties; else the share of the reducible error that
        is left, or of `cell_types` what the score lacks of 1.
    """

    axis: str
    head: str
    rest: str
    x: np.ndarray
    y: np.ndarray
    points: np.ndarray
    law: PowerLaw | None
    squared: bool


def curves(sweep: Sweep) -> list[Curve]:
    """Every curve with at least two sizes, by axis, line and head; that of the embeddings behind those of the heads."""
    if not sweep.finished:
        return []
    squared = sweep.same_values(sweep.splits[0])
    found = []
    for axis, (keys, place) in AXES.items():
        for line in _lines(sweep, keys):
            sizes = np.array([setting.mean(*place) for setting in line])
            if len(np.unique(sizes)) > 1 and len(np.unique(sizes)) == len(line):
                rest = ", ".join(f"{key} {text(value)}" for key, value in line[0].varied.items() if key not in keys)
                found += [_curve((axis, head, rest), sizes, line, squared=squared) for head in HEADS]
                found += [_cell_types((axis, CELL_TYPES, rest), sizes, line, sweep.task)] if sweep.task else []
    return found


def _lines(sweep: Sweep, keys: Sequence[str]) -> list[list[Setting]]:
    """Settings that differ in these keys alone."""
    if not set(keys) & set(sweep.varied):
        return []
    lines: dict[str, list[Setting]] = {}
    for setting in sweep.settings():
        rest = repr([(key, value) for key, value in setting.varied.items() if key not in keys])
        lines.setdefault(rest, []).append(setting)
    return list(lines.values())


def _curve(names: tuple[str, str, str], sizes: np.ndarray, line: list[Setting], *, squared: bool) -> Curve:
    head, order = names[1], np.argsort(sizes)
    line, x = [line[i] for i in order], sizes[order]
    samples = common_samples([setting.group for setting in line], head)
    parts = [[_errors(run, head, samples, squared) for run in setting.group.runs] for setting in line]
    y = np.array([np.mean([one[0] for one in errors]) for errors in parts])
    drawn = np.column_stack([np.mean([one[1] for one in errors], axis=0) for errors in parts])
    sums = line[0].group.runs[0].of(head).reindex(samples).to_numpy()
    floor = float(tie_floor(sums.sum(axis=0))) if squared else 0.0
    drawn_floor = tie_floor(resample(sums)) if squared else np.zeros(len(drawn))
    law = fit_power_law(x, y, floor, drawn=drawn, drawn_floor=drawn_floor, n_samples=len(samples))
    points = [(setting_x, one[0]) for setting_x, errors in zip(x, parts, strict=True) for one in errors]
    return Curve(*names, x, y, np.array(points), law, squared)


def _cell_types(names: tuple[str, str, str], sizes: np.ndarray, line: list[Setting], task: tuple[str, str]) -> Curve:
    order = np.argsort(sizes)
    parts = [[1 - run.cell_types(task) for run in line[i].runs] for i in order]
    x, y = sizes[order], np.array([np.mean(missed) for missed in parts])
    points = [(size, value) for size, missed in zip(x, parts, strict=True) for value in missed]
    return Curve(*names, x, y, np.array(points), fit_power_law(x, y, 0.0), squared=False)


def _errors(run, head: str, samples: list[str], squared: bool) -> tuple[float, np.ndarray]:
    """A run's error, and the same on samples drawn anew."""
    sums = run.of(head).reindex(samples).to_numpy()
    total, drawn = sums.sum(axis=0), resample(sums)
    if squared:
        return float(METRICS["mse"](total)), METRICS["mse"](drawn)
    return 1 - float(METRICS[REMOVED](total)), 1 - METRICS[REMOVED](drawn)


def sentence(curve: Curve) -> str:
    """What a curve says: the share that each doubling removes, and the error at twice the largest size."""
    name, last = HEAD_NAMES.get(curve.head, "Cell types"), curve.x[-1]
    unit = (lambda value: f"{value:.1f}") if curve.squared else (lambda value: f"{100 * value:.1f}\u00a0%")
    if curve.law is None:
        return f"{name}: {unit(curve.y[0])} at {curve.x[0]:,.0f}, {unit(curve.y[-1])} at {last:,.0f} {curve.axis}."
    value, low, high = (f"{100 * share:.1f}" for share in curve.law.removed_by(2))
    interval = f"95 % interval {low} to {high}"
    now, then = (float(np.squeeze(curve.law.at(x))) for x in (last, 2 * last))
    below, above = (float(np.squeeze(edge)) for edge in curve.law.band(2 * last))
    left = "distance from perfect" if curve.head == CELL_TYPES else "reducible error that is left"
    what = "reducible error" if curve.squared else left
    return (
        f"{name}: each doubling of the {curve.axis} removes {value}\u00a0% of the {what} ({interval}); "
        f"twice the largest size, {2 * last:,.0f}, would bring {unit(then)} ({unit(below)} to {unit(above)}) "
        f"after {unit(now)} on the curve ({unit(curve.y[-1])} measured)."
    )
