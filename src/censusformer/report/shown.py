"""Tables as the page shows them: text, alignment and how many rows stand open."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST = 400  # rows of a table that the page holds at most: a page about thousands of samples must stay small
OPEN = 12  # rows that are seen without unfolding


@dataclass(frozen=True)
class Cell:
    """One value: its text, a CSS class that marks it, and a link."""

    text: str
    mark: str = ""
    href: str = ""


@dataclass(frozen=True)
class Row:
    """Cells of one row, and the CSS class of the row."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Parameters
    ----------
    head
        Column names.
    kinds
        A CSS class for each column: `n` numbers, `name` text, `long` sentences, `bars` a bar whose text is its length
        in per cent.
    rows
        At most `MOST` of `total`.
    shown
        How many stand open; the others are folded away.
    total
        Rows before the table was cut.
    source
        The file that has them all.
    """

    head: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: tuple[Row, ...]
    shown: int
    total: int
    source: str


def table(columns: Sequence[tuple[str, str]], rows: Iterable[Row], shown: int = OPEN, source: str = "") -> Table:
    """Build a table of (name, kind) columns; few rows more than `shown` are shown, too."""
    rows = tuple(rows)
    shown = len(rows) if len(rows) <= shown + 3 else shown
    head, kinds = zip(*columns, strict=True)
    return Table(head, kinds, rows[:MOST], shown, len(rows), source)


def row(*values: object, kind: str = "") -> Row:
    """Build a row of values: integers get separators, None a dash, a `Cell` stays as it is."""
    return Row(tuple(_cell(value) for value in values), kind)


def _cell(value: object) -> Cell:
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("-")
    return Cell(f"{value:,}" if isinstance(value, int) else str(value))


def bar(part: float, whole: float) -> Cell:
    """Build a bar as long as `part` of `whole`."""
    return Cell(f"{100 * part / whole:.1f}" if whole else "0")


def link(text: str, address: str) -> Cell:
    """Build a link, where the address is one of the web; else the text alone."""
    return Cell(text, href=address if address.startswith(("https://", "http://")) else "")
