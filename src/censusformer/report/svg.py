"""One look for all figures, and figures as SVG that may stand inside a page."""

import io
import re
import warnings

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.8  # inches: two figures stand side by side on a desktop, one fills a phone, and 9.5 pt stays legible on both

COLOURS = {
    "ink": "#1b2733",
    "muted": "#5b6977",
    "grid": "#dde3e9",
    "gep": "#1567a8",
    "gepc": "#b4531c",
    "baseline": "#98a3af",
    "floor": "#c4ccd4",
    "train": "#6f7f90",
    "valid": "#2b8a72",
    "test": "#8a4a8f",
}
"""Every colour that a figure may use. The page turns each into a CSS variable, so that dark mode can answer."""

STYLE = {
    "svg.fonttype": "none",  # text stays text: small files, selectable, readable by machines
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same layout on every machine
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.parse_math": False,  # a donor may be called $x$
    "text.color": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["muted"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.7,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
}

_TAG = re.compile(r"<[^>]*>")
_ROLES = {colour: f"var(--{role})" for role, colour in COLOURS.items()}
_COLOUR = re.compile("|".join(_ROLES), re.IGNORECASE)
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def new_axes(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure of `width` x `height` inches with one pair of axes."""
    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots()


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an `<svg>` element that needs nothing from outside.

    Parameters
    ----------
    name
        A word that no other figure of the page has: it begins every id inside.
    label
        What a screen reader says.

    Returns
    -------
    The same text for the same figure: ids are hashed with `name`, and no date is written.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # text stays text: the browser has the glyph
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    start = text.index(">", text.index("<svg")) + 1
    body = re.sub(r"<style.*?</style>", "", text[start:], flags=re.DOTALL)
    body = _TAG.sub(lambda tag: _restyle(tag[0], name), body)
    width, height = (round(72 * inches, 1) for inches in figure.get_size_inches())
    return Markup(  # noqa: S704 - the label is escaped here, and all texts of a figure by matplotlib
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}'
    )


def _restyle(tag: str, name: str) -> str:
    """One tag with the page's colours and font, and with ids that are the figure's own."""
    tag = _COLOUR.sub(lambda colour: _ROLES[colour[0].lower()], tag)
    tag = tag.replace("'DejaVu Sans', sans-serif", "var(--font)").replace("xlink:href=", "href=")
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", tag)
