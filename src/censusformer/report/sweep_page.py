"""The page about a sweep: table, differences, scaling curves, losses and commands put into the template."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from censusformer.evaluation.compare import SEED, Difference, Estimate
from censusformer.report import sweep_figures as figures
from censusformer.report.comparison import ONE_SEED
from censusformer.report.findings import count, duration
from censusformer.report.sweep import (
    HEAD_NAMES,
    HEADS,
    METRIC_NAMES,
    REMOVED,
    SPLIT_NAMES,
    TASKS,
    Setting,
    Sweep,
    headline,
    shown,
    shown_difference,
    text,
)
from censusformer.report.sweep_scaling import CELL_TYPES, curves, sentence

MOST_LINES = 6  # scaling curves that are drawn for each axis


@dataclass(frozen=True)
class Cell:
    """A value of the table: its text, what it sorts by (None: its text), a CSS class, or links."""

    text: str
    key: float | None = None
    mark: str = ""
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of the table and its CSS class."""

    name: str
    kind: str = "n"


def render(sweep: Sweep) -> str:
    """The whole page as HTML; the same runs give the same text. Everything that is shown is escaped."""
    environment = Environment(
        loader=PackageLoader("censusformer.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    about: dict[str, Any] = {
        "name": sweep.name,
        "headline": headline(sweep),
        "lead": _lead(sweep),
        "failed": sweep.failed,
        "n_runs": len(sweep.runs),
        "criterion": sweep.criterion,
        "warnings": _warnings(sweep) if sweep.finished else [],
        "columns": [],
    }
    if sweep.finished:
        about |= {**_table(sweep), **_effects(sweep), **_scaling(sweep), **_losses(sweep), **_best(sweep)}
    return environment.get_template("sweep.html").render(about)


def _lead(sweep: Sweep) -> str:
    keys = ", ".join(sweep.varied) or "nothing but the seed"
    n = len(sweep.settings())
    seeds = sorted({len(setting.runs) for setting in sweep.settings()})
    each = f", {' or '.join(map(str, seeds))} seed{'s' if seeds != [1] else ''} each" if seeds else ""
    hours = sum(float(run.args["result"]["seconds"]) for run in sweep.finished)
    return (
        f"{count(len(sweep.finished), 'run')} of {count(n, 'setting')}{each}; varied: {keys}. "
        f"Training took {duration(hours)} in all."
    )


def _warnings(sweep: Sweep) -> Iterator[str]:
    split, _, metric = sweep.wanted
    asked = sweep.criterion.split(".")[0]
    if asked != split:
        yield f"Nothing was held out: {sweep.criterion} is taken on validation cells, whose samples were trained on."
    if split == "valid" and not sweep.same_positions(split):
        yield (
            "Validation cells differ between the data sets of this sweep, and some are easier than others, so that the "
            f"criterion does not compare across data; held-out samples do (test.gep.{REMOVED})."
        )
    elif not sweep.same_values(split) and metric not in (REMOVED, "spearman_cell"):
        yield (
            f"Not all settings were asked for the same hidden values of the {SPLIT_NAMES[split]} (data, genes or bins "
            f"differ), so that {metric} does not compare; {split}.gep.{REMOVED} does."
        )
    if len(sweep.settings()) > 1 and not sweep.seeds_known:
        yield ONE_SEED
    if split == "test" and len(sweep.settings()) > 1:
        yield "The best was chosen on the samples that it is measured on, so its figure flatters it a little." + (
            f" A choice on validation cells (the criterion valid.gep.{REMOVED}) would not."
            if "valid" in sweep.splits and sweep.same_positions("valid")
            else ""
        )


def _table(sweep: Sweep) -> dict[str, Any]:
    """Columns and rows, the best first."""
    split, head, metric = sweep.wanted
    measured = {
        (part, name, kind): sweep.estimates(part, name, kind)
        for part in sweep.splits for name in HEADS for kind in ("mse", REMOVED)
    }  # fmt: skip
    measured[split, head, metric] = sweep.estimates(split, head, metric)
    differences = sweep.differences(split, head, metric)
    columns = [Column("Setting", "name"), *(Column(key) for key in sweep.varied), Column("Seeds", "seeds"),
               Column(_title(split, head, metric), "n wide"), Column("less the reference", "n wide")]  # fmt: skip
    columns += [Column(_title(*key)) for key in measured if key != (split, head, metric)]
    columns += [Column(f"Cell types, {TASKS[sweep.task]}")] if sweep.task else []
    columns += [Column(name) for name in ("Gap to training cells", "Training cells", "Parameters", "Steps", "Minutes")]
    ranked = sweep.ranked()
    rows = [
        {"top": row == 0, "cells": [*_first_cells(setting), *_cells(setting, measured, differences, sweep)]}
        for row, setting in enumerate(ranked)
    ]
    first = next((f"{key} {text(ranked[0].varied[key])}" for key in sweep.varied), "")
    return {"columns": columns, "rows": rows, "reference": _described(sweep.reference(split)), "example": first,
            "words": _words(sweep)}  # fmt: skip


def _title(split: str, head: str, metric: str) -> str:
    return f"{split} {HEAD_NAMES[head]} {'removed' if metric == REMOVED else metric}"


def _described(setting: Setting) -> str:
    return ", ".join(f"{key} {text(value)}" for key, value in setting.varied.items()) or setting.group.name


def _first_cells(setting: Setting) -> list[Cell]:
    numbers = [
        Cell(text(value), float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None)
        for value in setting.varied.values()
    ]
    runs = sorted(setting.runs, key=lambda run: (str(type(run.settings.get(SEED))), run.settings.get(SEED) or 0))
    links = tuple((text(run.settings.get(SEED)), run.link) for run in runs)
    return [Cell(setting.label), *numbers, Cell("", len(links), links=links)]


def _cells(
    setting: Setting,
    measured: Mapping[tuple[str, str, str], Mapping[str, Estimate]],
    differences: Mapping[str, Difference],
    sweep: Sweep,
) -> Iterator[Cell]:
    name, wanted = setting.group.name, sweep.wanted
    found = measured[wanted][name]
    yield Cell(f"{shown(found.value, wanted[2])}{_interval(found, wanted[2])}", _key(found.value))
    if name in differences:
        estimate, verdict = differences[name].estimate, differences[name].verdict
        mark = {"better": "win", "worse": "loss"}.get(verdict, "")
        yield Cell(f"{shown_difference(estimate, wanted[2])} {verdict}", _key(estimate.value), mark)
    else:
        yield Cell("-", 0.0)
    for key, values in measured.items():
        if key != wanted:
            yield Cell(shown(values[name].value, key[2]), _key(values[name].value))
    if sweep.task:
        value = float(np.mean([run.cell_types(sweep.task) for run in setting.runs]))
        yield Cell(f"{value:.3f}", _key(value))
    yield from _costs(setting)


def _costs(setting: Setting) -> Iterator[Cell]:
    curve = setting.curve
    last = curve.loc[curve["valid"].idxmin()]
    gap = float(last["valid"] - last["train_fixed"])
    yield Cell(f"{gap:+.2f}", gap)
    for path in (("data", "train_cells"), ("parameters", "total"), ("result", "steps")):
        value = setting.mean(*path)
        yield Cell(f"{value:,.0f}", value)
    minutes = setting.mean("result", "seconds") / 60
    yield Cell(f"{minutes:.1f}", minutes)


def _interval(found: Estimate, metric: str) -> str:
    return "" if np.isnan(found.low) else f" ({shown(found.low, metric)} to {shown(found.high, metric)})"


def _key(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")


def _words(sweep: Sweep) -> str:
    split, head, metric = sweep.wanted
    seeds = ", and the spread of seeds" if sweep.seeds_known else ""
    n = sweep.estimates(split, head, metric)[sweep.settings(split)[0].group.name].n_samples
    return (
        f"mse: bins², GEP from each position, GEPC from the cell's embedding; removed: {METRIC_NAMES[REMOVED]}, which "
        f"compares across bins and ties; test: {SPLIT_NAMES['test']}, valid: {SPLIT_NAMES['valid']}. Gap: validation "
        f"loss less that of fixed training cells, at the best epoch. 95 % intervals: {count(n, 'sample')} drawn anew, "
        f"alike for both of a difference{seeds}; of twenty intervals of settings that change nothing "
        "one leaves 0 out by chance."
    )


def _effects(sweep: Sweep) -> dict[str, Any]:
    split = sweep.splits[0]
    found = {head: sweep.differences(split, head, REMOVED) for head in HEADS}
    others = [setting for setting in sweep.settings(split) if setting.group.name in found["gep"]]
    if not others:
        return {"effects": None}
    others.sort(key=lambda setting: -found["gep"][setting.group.name].estimate.value)
    listed = {head: [found[head][setting.group.name] for setting in others] for head in HEADS}
    return {
        "effects": figures.effects([s.label for s in others], listed),
        "effects_text": _effects_text(found["gep"], {s.group.name: s.label for s in others}, split),
        "effects_caption": f"Each setting less the reference ({_described(sweep.reference(split))}) on "
        f"{SPLIT_NAMES[split]}; right of the line is better. Bars: 95 % intervals.",
    }


def _effects_text(found: Mapping[str, Difference], labels: Mapping[str, str], split: str) -> str:
    by_verdict: dict[str, list[str]] = {}
    for name, difference in found.items():
        gain = shown_difference(difference.estimate, REMOVED)
        by_verdict.setdefault(difference.verdict, []).append(f"{labels[name]} {gain}")
    parts = [
        f"{word}: {'; '.join(by_verdict[verdict])}."
        for verdict, word in (
            ("better", "Helps"),
            ("worse", "Harms"),
            ("noise", "Within noise"),
            ("unknown", "Unknown"),
        )
        if verdict in by_verdict
    ]
    return f"GEP on {SPLIT_NAMES[split]}, in points of the reducible error removed. {' '.join(parts)}"


def _scaling(sweep: Sweep) -> dict[str, Any]:
    found = curves(sweep)
    parts = []
    for axis, along in groupby(found, key=lambda curve: curve.axis):
        lines = [list(both) for _, both in groupby(along, key=lambda curve: (curve.rest, curve.head == CELL_TYPES))]
        for both in lines[:MOST_LINES]:
            what = "Cell types by" if both[0].head == CELL_TYPES else "By"
            title = f"{what} {axis}" + (f", {both[0].rest}" if both[0].rest else "")
            svg = figures.scaling(both, f"scaling-{len(parts)}")
            parts.append({"title": title, "svg": svg, "sentences": [sentence(curve) for curve in both]})
    squared = found[0].squared if found else True
    said = (
        "the floor is that of random ties on the same hidden values of the same held-out samples."
        if squared
        else "hidden values differ between settings, so the error is the share of the gene mean's reducible error that "
        "is left, and the floor is 0."
    )
    return {"scaling": parts, "scaling_text": said}


def _losses(sweep: Sweep) -> dict[str, Any]:
    relative = not sweep.same_values("valid") if "valid" in sweep.splits else False
    settings = sweep.settings()
    best = next(s for s in settings if s.group.name == sweep.ranked()[0].group.name)
    caption = (
        "Means over seeds; the best setting is blue, the reference dark. Validation cells are of samples that were "
        "trained on."
    )
    if relative:
        caption += " Validation cells or bins differ between settings, so each loss is shown as a share of its start."
    return {"losses": figures.losses(settings, best, sweep.reference(), relative), "losses_caption": caption}


def _best(sweep: Sweep) -> dict[str, Any]:
    best = sweep.ranked()[0]
    return {"best": _described(best), "commands": [run.command for run in best.runs]}
