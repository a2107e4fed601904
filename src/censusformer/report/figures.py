"""The figures of the page: each takes arrays or tables and returns an `<svg>` element.

Colours mean one thing throughout: the heads have theirs, the splits theirs, baselines are grey, the floor of the ties
is the palest grey.
"""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from censusformer.report.findings import HEAD_NAMES, LABELS
from censusformer.report.svg import COLOURS, STYLE, new_axes, to_svg
from censusformer.report.tables import SPLITS, SplitTokens

SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "held-out test"}
_THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")
_MOST_NAMED = 40


@mpl.rc_context(STYLE)
def verdict(table: pd.DataFrame, split: str, intervals: Mapping[tuple[str, str], tuple[float, float]]) -> Markup:
    """Bars of the pooled error of every predictor, the heads in colour, the floor of the ties as a band.

    Parameters
    ----------
    table
        From `tables.wide`; the last column is the one over all ratios.
    intervals
        By head and baseline, of the baseline's error less the model's: thin lines that begin at the GEP's error.
    """
    values = table.iloc[:, -1]
    bars = values[[predictor != "tie_floor" for predictor, _ in values.index]]
    floor = values.get(("tie_floor", ""), np.nan)
    figure, axes = new_axes(0.8 + 0.36 * len(bars))
    model = bars.get(("model", "gep"), np.nan)
    for row, ((predictor, head), value) in enumerate(bars.items()):
        strong = predictor == "model"
        axes.barh(row, value, 0.72, color=COLOURS[head] if strong else COLOURS["baseline"])
        low, high = intervals.get(("gep", predictor), (np.nan, np.nan))
        axes.plot([model + low, model + high], [row, row], color=COLOURS["ink"], lw=1.3, marker="|", ms=5)
        axes.annotate(f"{value:.1f}", (np.fmax(value, model + high), row), (4, 0), textcoords="offset points",
                      va="center", weight="bold" if strong else "normal")  # fmt: skip
    if np.isfinite(floor):
        axes.axvspan(0, floor, color=COLOURS["floor"], lw=0)
        axes.text(0, -0.55, f"floor of ties {floor:.1f}", va="bottom", color=COLOURS["muted"], size=8.5)
    axes.set_yticks(range(len(bars)), [_name(*key) for key in bars.index])
    axes.set(xlim=(0, 1.13 * bars.max()), ylim=(len(bars) - 0.5, -0.5))
    axes.set_xlabel(f"mean squared error, {SPLIT_NAMES[split]} cells (bins²)")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", labelcolor=COLOURS["ink"])
    return to_svg(figure, "verdict", "Error of the model and of each baseline")


def _name(predictor: str, head: str) -> str:
    return " ".join(filter(None, [LABELS.get(predictor, predictor), HEAD_NAMES.get(head, head)]))


@mpl.rc_context(STYLE)
def loss(metrics: pd.DataFrame, lines: dict[str, float], head: str) -> Markup:
    """One head's loss by epoch, with the baselines of the validation cells as horizontal lines.

    Parameters
    ----------
    metrics
        Rows of `metrics.csv` over all mask ratios, with the column `window` (whether a row is a window of an epoch).
    lines
        Error of each baseline on the validation cells, and of the floor of the ties, by predictor.
    """
    figure, axes = new_axes(3.5)
    rows = metrics[metrics["head"] == head]
    ends = {LABELS[name]: (value, COLOURS["muted"]) for name, value in lines.items()}
    for name, value in lines.items():
        axes.axhline(value, color=COLOURS["baseline"], lw=0.9, dashes=(4, 2) if name != "tie_floor" else (1, 1.5))
    windows = rows[rows["window"] & (rows["split"] == "train")]
    axes.plot(windows["at"], windows["mse"], color=COLOURS["floor"], lw=0.8)
    for split, label, colour in (
        ("train", "training, mean of epoch", "train"),
        ("train_fixed", "fixed training cells", "ink"),
        ("valid", "validation cells", head),
    ):
        curve = rows[~rows["window"] & (rows["split"] == split)].sort_values("at")
        if len(curve):
            axes.plot(curve["at"], curve["mse"], color=COLOURS[colour], lw=1.8, marker="o", ms=3.2)
            ends[label] = (curve["mse"].iloc[-1], COLOURS[colour])
    top = 1.08 * max([value for value, _ in ends.values()])
    last = float(rows["at"].max())
    low = 0.8 * min(value for value, _ in ends.values())
    axes.set(xlim=(0, last), ylim=(low, top), xlabel="epoch", ylabel=f"{HEAD_NAMES[head]} error (bins²)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label_ends(axes, ends, last, (top - low) / 20)
    return to_svg(figure, f"loss-{head}", f"{HEAD_NAMES[head]} loss by epoch beside the baselines")


def _legend(axes: Axes) -> None:
    """A legend above the frame, where it hides nothing."""
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, handlelength=1.4)


def _label_ends(axes: Axes, ends: dict[str, tuple[float, str]], x: float, gap: float) -> None:
    """Labels at the right end of lines, moved apart where they would touch."""
    names = list(ends)
    for name, y in zip(names, spread([ends[name][0] for name in names], gap), strict=True):
        axes.annotate(f"{name} {ends[name][0]:.0f}", (x, y), (6, 0), textcoords="offset points", va="center",
                      size=8.5, color=ends[name][1], annotation_clip=False)  # fmt: skip


def spread(positions: list[float], gap: float) -> list[float]:
    """Move positions as little as needed until neighbours are `gap` apart; their order stays.

    Groups that touch are merged and centred on their mean (pool adjacent violators).
    """
    order = np.argsort(positions, kind="stable")
    groups: list[list[float]] = []
    for rank in order:
        groups.append([float(positions[rank]), 1])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            mean, n = groups.pop()
            groups[-1] = [(groups[-1][0] * groups[-1][1] + mean * n) / (groups[-1][1] + n), groups[-1][1] + n]
    placed = [mean + gap * (i - (n - 1) / 2) for mean, n in groups for i in range(int(n))]
    moved = np.empty(len(positions))
    moved[order] = placed
    return moved.tolist()


@mpl.rc_context(STYLE)
def by_ratio(table: pd.DataFrame, split: str) -> Markup:
    """Error by mask ratio, one line a predictor.

    Parameters
    ----------
    table
        From `tables.wide`.
    """
    table = table.loc[:, np.isfinite(table.columns)]
    figure, axes = new_axes(3.1)
    x = 100 * table.columns.to_numpy(float)
    ends = {}
    for (predictor, head), row in table.iterrows():
        model = predictor == "model"
        colour = COLOURS[head] if model else COLOURS["baseline"]
        axes.plot(x, row, color=colour, lw=1.9 if model else 1.1, marker="o", ms=3.4 if model else 2.4,
                  ls=":" if predictor == "tie_floor" else "-")  # fmt: skip
        ends[_name(predictor, head)] = (row.iloc[-1], colour if model else COLOURS["muted"])
    top = 1.08 * float(table.max(axis=None))
    axes.set(ylim=(0, top), xlabel="masked share of a cell's genes (%)", ylabel="mean squared error (bins²)")
    axes.set_xticks(x)
    axes.set_title(f"{SPLIT_NAMES[split]} cells", loc="left")
    _label_ends(axes, ends, x[-1], top / 17)
    return to_svg(figure, f"ratio-{split}", f"Error by mask ratio on {SPLIT_NAMES[split]} cells")


@mpl.rc_context(STYLE)
def depth(table: pd.DataFrame) -> Markup:
    """One dot a sample: its median counts and genes a cell.

    Parameters
    ----------
    table
        From `tables.qc_by_sample`.
    """
    figure, axes = new_axes(3.1)
    for split in ("train", "test"):
        rows = table[(table["status"] == split) & (table["n_kept"] > 0)]
        if len(rows):
            size = 10 + 50 * np.sqrt(rows["n_kept"] / table["n_kept"].max())
            axes.scatter(rows["counts"], rows["genes"], size, color=COLOURS[split], alpha=0.7, lw=0,
                         label=f"{SPLIT_NAMES[split]} sample")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="counts a cell, median", ylabel="genes a cell, median")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_THOUSANDS)
        axis.set_minor_formatter(_sparse)
    axes.grid(which="both")
    axes.tick_params(which="both", length=0)
    _legend(axes)
    return to_svg(figure, "depth", "Median counts and genes a cell, one dot a sample")


_sparse = FuncFormatter(lambda value, _: f"{value:,.0f}" if f"{value:e}"[0] in "25" else "")


@mpl.rc_context(STYLE)
def genes_a_cell(table: pd.DataFrame) -> Markup:
    """Genes a cell by sample: median, middle half, and the 5 to 95 % range; named where there are few samples.

    Parameters
    ----------
    table
        From `tables.qc_by_sample`.
    """
    rows = table[table["n_kept"] > 0]
    named = len(rows) <= _MOST_NAMED
    figure, axes = new_axes(0.6 + 0.19 * max(4, len(rows)) if named else 3.4)
    (_ranges if named else _ribbons)(axes, rows)
    axes.set(xlabel="genes a cell", ylim=(len(rows) - 0.4, -0.6), xlim=(0, None))
    axes.xaxis.set_major_formatter(_THOUSANDS)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    return to_svg(figure, "genes-a-cell", "Genes a cell by sample")


def _ranges(axes: Axes, rows: pd.DataFrame) -> None:
    """A named line for each sample."""
    y = np.arange(len(rows))
    axes.hlines(y, rows["genes_5"], rows["genes_95"], color=COLOURS["floor"], lw=1.2)
    axes.hlines(y, rows["genes_25"], rows["genes_75"], color=[COLOURS[status] for status in rows["status"]], lw=4.5)
    axes.scatter(rows["genes"], y, 14, color=COLOURS["ink"], zorder=3, lw=0)
    axes.set_yticks(y, [shorten(name) for name in rows["sample"]], size=8)


def _ribbons(axes: Axes, rows: pd.DataFrame) -> None:
    """Bands over all samples, by their median."""
    rows = rows.sort_values("genes", ignore_index=True)
    axes.fill_betweenx(rows.index, rows["genes_5"], rows["genes_95"], color=COLOURS["floor"], lw=0)
    axes.fill_betweenx(rows.index, rows["genes_25"], rows["genes_75"], color=COLOURS["train"], lw=0)
    axes.plot(rows["genes"], rows.index, color=COLOURS["ink"], lw=1.6)
    axes.set_yticks([])
    axes.set_ylabel(f"{len(rows):,} samples, by median")


def shorten(text: str, most: int = 30) -> str:
    """Leave the middle out of a long name."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


@mpl.rc_context(STYLE)
def overlap(values: np.ndarray, datasets: np.ndarray) -> Markup:
    """Heat map of the Jaccard index between samples, which stand by data set.

    Parameters
    ----------
    values
        float (S, S), the diagonal is not shown.
    datasets
        The S samples' data sets, sorted.
    """
    figure, axes = new_axes(3.6)
    shown = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    colours = mpl.colors.LinearSegmentedColormap.from_list("overlap", ["#eef3f7", "#5b9bc8", "#0c2f55"])
    picture = axes.imshow(shown, cmap=colours, vmin=0, vmax=max(0.05, float(np.nanmax(shown))), interpolation="none")
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("Jaccard index")
    starts = np.flatnonzero(np.r_[True, datasets[1:] != datasets[:-1]])
    for start in starts[1:]:
        axes.axhline(start - 0.5, color=COLOURS["ink"], lw=0.6)
        axes.axvline(start - 0.5, color=COLOURS["ink"], lw=0.6)
    middle = (starts + np.r_[starts[1:], len(datasets)] - 1) / 2
    few = len(starts) <= 20
    axes.set_yticks(middle if few else [], [shorten(name, 17) for name in datasets[starts]] if few else [], size=8)
    axes.set_xticks([])
    axes.set_xlabel(f"{len(values):,} samples, by data set")
    axes.spines[:].set_visible(False)
    return to_svg(figure, "overlap", "Jaccard index of the gene lists of each two samples")


@mpl.rc_context(STYLE)
def overlap_pairs(within: np.ndarray, between: np.ndarray, chance: float) -> Markup:
    """Distribution of the Jaccard index over pairs of samples of one data set, and of two."""
    figure, axes = new_axes(3.1)
    edges = np.linspace(0, max(0.1, 1.02 * max(map(np.max, filter(len, (within, between))))), 31)
    for values, label, colour in ((between, "two data sets", "train"), (within, "one data set", "gep")):
        if len(values):
            weights = np.full(len(values), 100 / len(values))
            axes.hist(values, edges, weights=weights, histtype="stepfilled", alpha=0.55, color=COLOURS[colour],
                      label=f"samples of {label}: median {np.median(values):.2f}")  # fmt: skip
    axes.axvline(chance, color=COLOURS["ink"], lw=0.9, dashes=(2, 2), label=f"lists drawn at random: {chance:.2f}")
    axes.set(xlabel="Jaccard index of two samples' lists", ylabel="% of pairs", xlim=(0, edges[-1]))
    _legend(axes)
    return to_svg(figure, "overlap-pairs", "Distribution of the Jaccard index")


@mpl.rc_context(STYLE)
def samples_a_gene(n_samples: np.ndarray, most: int) -> Markup:
    """By how many samples the genes were selected, genes that none selected left out.

    Parameters
    ----------
    n_samples
        int (genes,).
    most
        The number of samples.
    """
    figure, axes = new_axes(3.1)
    width = max(1, int(np.ceil(most / 40)))
    edges = np.arange(1, most + width + 1, width) - 0.5
    axes.hist(n_samples[n_samples > 0], edges, color=COLOURS["train"], rwidth=0.86)
    axes.set(xlabel="samples that selected the gene", ylabel="genes", xlim=(edges[0], edges[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(_THOUSANDS)
    return to_svg(figure, "samples-a-gene", "Number of samples that selected each gene")


@mpl.rc_context(STYLE)
def cells_a_gene(n_cells: np.ndarray) -> Markup:
    """In how many training cells the genes stand as tokens; genes that are in none are left out.

    Parameters
    ----------
    n_cells
        int (genes,).
    """
    figure, axes = new_axes(3.1)
    seen = n_cells[n_cells > 0]
    axes.hist(seen, np.geomspace(1, max(10, seen.max()) * 1.001, 31) - 1e-9, color=COLOURS["train"], rwidth=0.9)
    axes.set(xscale="log", xlabel="training cells that show the gene as a token", ylabel="genes")
    axes.xaxis.set_major_formatter(_THOUSANDS)
    axes.yaxis.set_major_formatter(_THOUSANDS)
    axes.tick_params(which="both", length=0)
    return to_svg(figure, "cells-a-gene", "Number of training cells that show each gene")


@mpl.rc_context(STYLE)
def tokens_a_cell(tokens: dict[str, SplitTokens]) -> Markup:
    """Distribution of the tokens a cell, by split."""
    figure, axes = new_axes(3.1)
    longest = max(int(part.lengths.max()) for part in tokens.values() if len(part.lengths))
    edges = np.linspace(0, longest + 1, min(31, longest + 2))
    for split in (split for split in SPLITS if len(tokens[split].lengths)):
        lengths = tokens[split].lengths
        weights = np.full(len(lengths), 100 / len(lengths))
        axes.hist(lengths, edges, weights=weights, histtype="step", lw=1.6, color=COLOURS[split],
                  label=f"{SPLIT_NAMES[split]}: median {np.median(lengths):,.0f}, most {lengths.max():,}")  # fmt: skip
    axes.set(xlabel="tokens a cell (expressed HVGs, without <cls>)", ylabel="% of cells", xlim=(0, edges[-1]))
    _legend(axes)
    return to_svg(figure, "tokens", "Tokens a cell by split")


@mpl.rc_context(STYLE)
def bins(tokens: dict[str, SplitTokens]) -> Markup:
    """How often each bin occurs, by split, beside the level of bins that are all used alike."""
    figure, axes = new_axes(3.1)
    for split in (split for split in SPLITS if tokens[split].bins.sum()):
        counts = tokens[split].bins[1:]
        x = np.arange(1, len(counts) + 1)
        axes.step(x, 100 * counts / counts.sum(), where="mid", color=COLOURS[split], lw=1.5, label=SPLIT_NAMES[split])
        axes.axhline(100 / len(counts), color=COLOURS["baseline"], lw=0.8, dashes=(4, 2))
    axes.set(xlabel="bin (1 = lowest of the cell)", ylabel="% of tokens", ylim=(0, None))
    _legend(axes)
    return to_svg(figure, "bins", "How often each bin occurs")
