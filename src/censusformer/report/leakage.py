"""What the page says of the leakage check: what was compared, and what stands on both sides."""

from collections.abc import Mapping

from censusformer.report.findings import count, percent
from censusformer.report.shown import Cell, Row, Table, row, table

SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "held-out test"}


def leakage_text(found: Mapping) -> str:
    """Persons, samples and copies in words; that nothing was compared, where it was not."""
    if not found:
        return "Nothing was compared: this evaluation wrote no leakage.json. Run evaluate again."
    persons, copied = found["persons"], [pair for pair in found["cells"] if pair["same_counts"]]
    parts = [_persons(persons)]
    parts.append(
        f"{count(found['samples']['train'], 'sample')} of training and validation and {found['samples']['test']:,} "
        "held out have no name in common, and no cell's key stands in two splits."
    )
    if any(pair["same_counts"] is None for pair in found["cells"]):
        parts.append("Raw counts were not given, so copies of cells under other names were not looked for.")
    elif copied:
        parts += [_copies(pair) for pair in copied]
    else:
        parts.append("No cell has exactly the raw counts of a cell in another split.")
    return " ".join(parts)


def _persons(persons: Mapping) -> str:
    if not persons["recorded"]:
        return "Persons are not recorded, so they could not be compared."
    return (
        f"{count(persons['train'], 'person')} in training and {persons['test']:,} in the test, none on both sides. A "
        "person is known by obs.person, else by the donor's name within a collection: one who gave blood under two "
        "names in two collections is not seen."
    )


def _copies(pair: Mapping) -> str:
    one, other = SPLIT_NAMES[pair["one"]], SPLIT_NAMES[pair["other"]]
    share = percent(pair["same_counts"] / pair["n"][1])
    return (
        f"{count(pair['same_counts'], f'{other} cell')} ({share}) have exactly the raw counts of a {one} cell: copies "
        "under other names, which make the task easier."
    )


def has_copies(found: Mapping) -> bool:
    """Whether a test cell is a copy of one that was trained on."""
    return any(pair["same_counts"] for pair in found.get("cells", []) if pair["other"] == "test")


def leakage_table(found: Mapping) -> Table | None:
    """Each two splits with the number of cells that they share, by key, by raw counts and by set of genes."""
    if not found:
        return None
    columns = [("Compared", "name"), ("Cells", "n"), ("Same key", "n"), ("Same raw counts", "n"),
               ("Same set of tokens", "n"), ("Longest such set", "n")]  # fmt: skip
    return table(columns, map(_row, found["cells"]))


def _row(pair: Mapping) -> Row:
    names = f"{SPLIT_NAMES[pair['other']]} with {SPLIT_NAMES[pair['one']]}"
    counts = pair["same_counts"]
    marked = None if counts is None else Cell(f"{counts:,}", "loss" if counts else "")
    return row(names, f"{pair['n'][1]:,} with {pair['n'][0]:,}", pair["same_key"], marked, pair["same_genes"],
               pair["longest"] or None)  # fmt: skip
