"""What a data set is made of: the content of `provenance.json`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import pandas as pd

from censusformer.census.choose import Choice, left_out

CENSUS_LICENCE = (
    "Data of the CELLxGENE Census are licensed under CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/): cite "
    "the data sets below and the Census, doi:10.1093/nar/gkae1142"
)
OTHER_LICENCE = "Not stated by the census: the terms of the data sets below apply"

_DATASET_COLUMNS = (
    "dataset_title",
    "dataset_version_id",
    "collection_id",
    "collection_name",
    "collection_doi",
    "citation",
    "counts_digest",
)


def cells_by_stage(choices: Sequence[Choice], n_census: int) -> dict[str, int]:
    """Cells in the census, selected by the filter, in samples that may be chosen, and chosen."""
    cells: Counter[str] = Counter()
    for choice in choices:
        cells[choice.status] += choice.sample.n_cells
    return {
        "census": n_census,
        "filter": sum(cells.values()),
        "chosen": cells["train"] + cells["test"],
        "train": cells["train"],
        "test": cells["test"],
    }


def provenance(
    *,
    census: Mapping[str, str | None],
    summary: Mapping[str, str],
    settings: Mapping[str, object],
    choices: Sequence[Choice],
    datasets: pd.DataFrame,
    chunks: Mapping[str, Sequence[str]],
    n_census: int,
) -> dict[str, object]:
    """Everything that says where the chosen cells come from; no dates but the census's own.

    Parameters
    ----------
    census
        `asked`, `version`, `uri`: as the user named the census, and as it was opened.
    summary
        `census_info/summary`.
    settings
        The options that chose the samples, by config key.
    datasets
        `census_info/datasets`, indexed by `dataset_id`, all as text.
    chunks
        Names of the chunks by status.
    n_census
        Cells of the organism in the whole census.
    """
    samples = Counter(choice.status for choice in choices)
    reasons = [{"reason": reason, "samples": n, "cells": cells} for reason, n, cells in left_out(choices)]
    return {
        "census": dict(census),
        "census_summary": dict(summary),
        "licence": CENSUS_LICENCE if census["version"] else OTHER_LICENCE,
        "settings": dict(settings),
        "cells": cells_by_stage(choices, n_census),
        "samples": {status: samples[status] for status in ("train", "test", "out")},
        "left_out": reasons,
        "chunks": {status: list(names) for status, names in chunks.items()},
        "datasets": _chosen_datasets(choices, datasets),
        "software": {name: version(name) for name in ("cellxgene-census", "tiledbsoma")},
    }


def _chosen_datasets(choices: Sequence[Choice], datasets: pd.DataFrame) -> list[dict[str, object]]:
    cells: dict[str, Counter[str]] = {}
    for choice in choices:
        if choice.status != "out":
            cells.setdefault(choice.sample.dataset_id, Counter())[choice.status] += choice.sample.n_cells
    columns = [column for column in _DATASET_COLUMNS if column in datasets]
    told = datasets.reindex(sorted(cells), columns=columns, fill_value="").to_dict("index")
    return [
        {"dataset_id": dataset, **told[dataset], "cells": {"train": n["train"], "test": n["test"]}}
        for dataset, n in sorted(cells.items())
    ]
