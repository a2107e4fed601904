"""The page about several models: sentences, one picture and two tables put into the template."""

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from censusformer.evaluation.compare import Estimate
from censusformer.report import comparison
from censusformer.report.comparison import HEADS, Comparison
from censusformer.report.figures import shorten
from censusformer.report.findings import HEAD_NAMES
from censusformer.report.svg import COLOURS, STYLE, new_axes, to_svg
from censusformer.report.sweep import REMOVED, SPLIT_NAMES

BEST = Estimate(0.0, np.nan, np.nan, "", 0)  # the best one less itself
MOST_SHOWN = 40  # models in the picture; the tables have all


def render(found: Comparison) -> str:
    """The whole page as HTML; everything that is shown is escaped, and nothing is loaded from elsewhere."""
    environment = Environment(
        loader=PackageLoader("censusformer.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("comparison.html").render(
        headline=comparison.headline(found),
        lead=comparison.lead(found),
        warnings=list(comparison.warnings(found)),
        picture=picture(found) if len(found.groups) > 1 else None,
        caption=f"Each model less the best one, on {SPLIT_NAMES[found.split]}. Bars are 95 % intervals: one that "
        "crosses the line is noise.",
        models=comparison.models_table(found),
        pairs=comparison.pairs_table(found),
        words=comparison.words(found),
    )


@mpl.rc_context(STYLE)
def picture(found: Comparison) -> Markup:
    """Dots and intervals: each model's difference from the best one, by head."""
    names = [group.name for group in found.ranked(HEADS[0])][:MOST_SHOWN]
    figure, axes = new_axes(1.0 + 0.4 * len(names))
    scale, unit = (100, "points of reducible error removed") if found.metric == REMOVED else (1, "error, bins²")
    for shift, head in zip((-0.16, 0.16), HEADS, strict=True):
        differences = found.from_best(head)
        for place, name in enumerate(names):
            found_here = differences[name].estimate if name in differences else BEST
            value, low, high = found_here.value, found_here.low, found_here.high
            axes.plot([scale * low, scale * high], [place + shift] * 2, color=COLOURS[head], lw=1.6)
            axes.scatter(scale * value, place + shift, 20, color=COLOURS[head], zorder=3, lw=0,
                         label=HEAD_NAMES[head] if place == 0 else None)  # fmt: skip
    axes.axvline(0, color=COLOURS["ink"], lw=0.8)
    axes.set_yticks(range(len(names)), [shorten(name, 34) for name in names])
    axes.tick_params(axis="y", labelcolor=COLOURS["ink"])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=f"difference from the best ({unit})")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1, handlelength=1.2)
    return to_svg(figure, "differences", "Difference of each model from the best one, with 95 % intervals")
