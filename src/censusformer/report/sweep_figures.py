"""The figures of the page about a sweep."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from censusformer.evaluation.compare import Difference
from censusformer.report.figures import shorten, spread
from censusformer.report.svg import COLOURS, STYLE, new_axes, to_svg
from censusformer.report.sweep import HEAD_NAMES, HEADS, Setting
from censusformer.report.sweep_scaling import CELL_TYPES, Curve

MOST_NAMED = 8  # lines that bear their names
MOST_SHOWN = 60  # differences in a figure; the table has all
NAMES = {**HEAD_NAMES, CELL_TYPES: "cell types, from <cls>"}
_COUNT = FuncFormatter(lambda value, _: f"{value:,.0f}")


@mpl.rc_context(STYLE)
def losses(settings: Sequence[Setting], best: Setting, reference: Setting, relative: bool) -> Markup:
    """Validation loss by step, a line for each setting: the best and the reference in colour.

    Parameters
    ----------
    relative
        In per cent of the loss before training: where bins differ, losses do not compare.
    """
    figure, axes = new_axes(3.6)
    ends = {}
    for setting in settings:
        curve = setting.curve
        y = curve["valid"].to_numpy(float)
        y = 100 * y / y[0] if relative else y
        colour = {best.label: COLOURS["gep"], reference.label: COLOURS["ink"]}.get(setting.label, COLOURS["baseline"])
        strong = setting.label in (best.label, reference.label)
        axes.plot(curve["step"], y, color=colour, lw=1.9 if strong else 1.0, zorder=3 if strong else 2)
        if strong or len(settings) <= MOST_NAMED:
            ends[setting.label] = (float(curve["step"].iloc[-1]), y[-1], colour)
    axes.set_xlabel("step")
    axes.set_ylabel("validation loss (% of its start)" if relative else "validation loss, GEP + GEPC (bins²)")
    axes.xaxis.set_major_formatter(_COUNT)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    low, high = axes.get_ylim()
    names = list(ends)
    for name, y in zip(names, spread([ends[name][1] for name in names], (high - low) / 18), strict=True):
        axes.annotate(shorten(name, 36), (ends[name][0], y), (6, 0), textcoords="offset points", va="center", size=8.5,
                      color=ends[name][2], annotation_clip=False)  # fmt: skip
    return to_svg(figure, "losses", "Validation loss by step of each setting")


@mpl.rc_context(STYLE)
def effects(labels: Sequence[str], differences: dict[str, Sequence[Difference]]) -> Markup:
    """Dots and intervals: the share of the reducible error that each setting removes, less the reference's.

    Parameters
    ----------
    labels
        The settings, without the reference.
    differences
        By head, in the order of the labels.
    """
    labels = list(labels)[:MOST_SHOWN]
    figure, axes = new_axes(0.9 + 0.36 * len(labels))
    for shift, head in zip((-0.15, 0.15), HEADS, strict=True):
        for row, found in enumerate(differences[head][: len(labels)]):
            estimate = found.estimate
            axes.plot([100 * estimate.low, 100 * estimate.high], [row + shift] * 2, color=COLOURS[head], lw=1.6)
            axes.scatter(100 * estimate.value, row + shift, 18, color=COLOURS[head], zorder=3, lw=0,
                         label=HEAD_NAMES[head] if row == 0 else None)  # fmt: skip
    axes.axvline(0, color=COLOURS["ink"], lw=0.8)
    axes.set_yticks(range(len(labels)), [shorten(label, 34) for label in labels])
    axes.tick_params(axis="y", labelcolor=COLOURS["ink"])
    axes.set(ylim=(len(labels) - 0.5, -0.5), xlabel="points of reducible error removed")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1, handlelength=1.2)
    return to_svg(figure, "effects", "Difference of each setting from the reference, with 95 % intervals")


@mpl.rc_context(STYLE)
def scaling(both: Sequence[Curve], name: str) -> Markup:
    """Error against size for both heads: runs as dots, the fitted law with its band, up to twice the largest size.

    Parameters
    ----------
    both
        The curves of one axis and line: one for each head, or that of the cell types alone.
    name
        Of the figure: a word that no other has.
    """
    figure, axes = new_axes(3.4)
    factor = 1 if both[0].squared else 100
    for curve in both:
        colour = COLOURS.get(curve.head, COLOURS["valid"])
        axes.scatter(curve.points[:, 0], factor * curve.points[:, 1], 12, color=colour, alpha=0.55, lw=0)
        if curve.law is None:
            axes.plot(curve.x, factor * curve.y, color=colour, lw=1.6, label=NAMES[curve.head])
            continue
        x = np.geomspace(curve.x[0], 2 * curve.x[-1], 60)
        axes.fill_between(x, *(factor * edge for edge in curve.law.band(x)), color=colour, alpha=0.14, lw=0)
        inside = x <= curve.x[-1]
        axes.plot(x[inside], factor * curve.law.at(x[inside]), color=colour, lw=1.7, label=NAMES[curve.head])
        axes.plot(x[~inside], factor * curve.law.at(x[~inside]), color=colour, lw=1.3, ls=(0, (3, 2)))
    low, high = (bound(np.concatenate([curve.points[:, 1] for curve in both])) for bound in (np.min, np.max))
    room = 0.6 * (high - low) or 1
    axes.set(xscale="log", xlabel=both[0].axis, ylim=(factor * (low - room), factor * (high + room)))
    left = "missing of a perfect score (%)" if both[0].head == CELL_TYPES else "reducible error left (%)"
    axes.set_ylabel("mean squared error (bins²)" if both[0].squared else left)
    axes.set_xticks(both[0].x)
    axes.xaxis.set_major_formatter(_COUNT)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1, handlelength=1.4)
    return to_svg(figure, name, f"Error by {both[0].axis}, with a fitted power law")
