"""Figures of embeddings: scores with their intervals, and cells in the plane."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup

from censusformer.report.embedded import NAMES, TASKS, Embedded
from censusformer.report.figures import shorten
from censusformer.report.svg import COLOURS, STYLE, new_axes, to_svg

CATEGORIES = ("#3b82c4", "#d9772b", "#3f9b6d", "#b65a9c", "#8a6fc7", "#b59a2c", "#3aa7b0", "#c2504f", "#7d8a3c",
              "#8c6448")  # fmt: skip
"""Colours of labels: of middle lightness, so that a picture stands on light and on dark paper."""
LABELS = {"cell_type": "cell type", "donor": "donor", "dataset": "data set"}
_CLASSIFIERS = (
    ("knn_macro_f1", "15 nearest cells", "o", -0.14),
    ("logistic_macro_f1", "logistic regression", "s", 0.14),
)


@mpl.rc_context(STYLE)
def scores(found: Embedded, task: str) -> Markup:
    """Macro-F1 of each representation by both classifiers, with intervals where there are some."""
    frame = found.scores(task)
    names = [name for name in NAMES if name in set(frame["representation"])]
    figure, axes = new_axes(0.9 + 0.34 * len(names))
    for metric, label, marker, shift in _CLASSIFIERS:
        part = frame[frame["metric"] == metric].set_index("representation")
        y = np.array([names.index(name) for name in part.index]) + shift
        colours = [COLOURS["gep" if name.startswith("model") else "muted"] for name in part.index]
        axes.hlines(y, part["low"], part["high"], color=colours, lw=1.2)
        faces = colours if marker == "o" else "none"
        axes.scatter(part["value"], y, 26, marker=marker, facecolors=faces, edgecolors=colours, lw=1.2, zorder=3)
        axes.scatter([], [], 26, marker=marker, color=COLOURS["muted"] if marker == "o" else "none",
                     edgecolors=COLOURS["muted"], label=label)  # fmt: skip
    blind = frame[frame["metric"] == "majority_macro_f1"]["value"]
    axes.scatter(blind, [names.index("majority")] * len(blind), 26, color=COLOURS["floor"])
    axes.set(xlim=(0, 1.02), ylim=(len(names) - 0.5, -0.6), xlabel="macro-F1 of cell types")
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.tick_params(axis="y", labelcolor=COLOURS["ink"])
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, handlelength=1, ncols=2)
    return to_svg(figure, f"embeddings-{task}", f"Macro-F1 of cell types by representation: {TASKS[task]}")


@mpl.rc_context(STYLE)
def plane(umap: pd.DataFrame, representation: str, column: str) -> Markup:
    """Cells of one representation in the plane, coloured by the most frequent labels of a column."""
    rows = umap[umap["representation"] == representation]
    shown = rows[column][rows[column] != ""].value_counts().sort_index().nlargest(len(CATEGORIES)).index
    colour = dict(zip(shown, CATEGORIES, strict=False))
    figure, axes = new_axes(3.5 + 0.19 * -(-(len(shown) + 1) // 2))
    figure.set_dpi(150)
    axes.scatter(rows["x"], rows["y"], 300 / len(rows) ** 0.5 / 2, lw=0, rasterized=True,
                 c=[colour.get(label, COLOURS["floor"]) for label in rows[column]])  # fmt: skip
    for label in shown:
        axes.scatter([], [], 22, color=colour[label], label=shorten(label, 24))
    if (rest := _rest(rows[column], shown)) is not None:
        axes.scatter([], [], 22, color=COLOURS["floor"], label=rest)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_aspect("equal", "datalim")
    axes.set_title(f"{NAMES[representation]}, by {LABELS[column]}", loc="left")
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8, handletextpad=0.1, columnspacing=0.8)
    return to_svg(figure, f"umap-{representation}-{column}", f"Cells by {LABELS[column]}, {NAMES[representation]}")


def _rest(labels: pd.Series, shown: pd.Index) -> str | None:
    """What the pale dots are."""
    others = set(labels) - set(shown) - {""}
    parts = [f"{len(others)} others"] if others else []
    return " and ".join([*parts, *(["not labelled"] if (labels == "").any() else [])]) or None


def planes(found: Embedded) -> list[tuple[Markup, str]]:
    """Pictures by type, donor and data set: the model on the left, the baseline on the right."""
    drawn = list(dict.fromkeys(found.umap["representation"]))
    columns = [name for name in LABELS if len(drawn) and (found.umap[name] != "").any()]
    return [(plane(found.umap, name, column), "") for column in columns for name in drawn]


@mpl.rc_context(STYLE)
def by_frequency(frequency: pd.DataFrame, names: dict[str, str]) -> Markup:
    """Error by the class of training cells that show a gene."""
    figure, axes = new_axes(3.1)
    place = {value: i for i, value in enumerate(sorted(frequency["at_least"].unique()))}
    for shift, (predictor, label) in zip((-0.1, 0, 0.1), names.items(), strict=True):
        part = frequency[frequency["predictor"] == predictor]
        x = part["at_least"].map(place) + shift
        colour = COLOURS.get(predictor, COLOURS["baseline"])
        axes.vlines(x, part["low"], part["high"], color=colour, lw=1.2)
        axes.plot(x, part["mse"], color=colour, lw=1.2, marker="o", ms=4, label=label)
    axes.set_xticks(range(len(place)), [f"{value:,}" for value in place])
    axes.set(xlabel="training cells that show the gene, at least", ylabel="mean squared error (bins²)", ylim=(0, None))
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, ncols=3, handlelength=1.2,
                columnspacing=0.9)  # fmt: skip
    return to_svg(figure, "frequency", "Error by how often genes were trained")
