"""Gene symbols to Ensembl ids, by the GENCODE table that the package celltypist ships."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import csv

from censusformer.errors import InputError

GENCODE = "data/samples/GENCODEv44_Gene_id2name.csv"


def package_file(package: str, path: str) -> Path:
    """A file of an installed package, found without importing it.

    Raises
    ------
    InputError
        Where the package, or the file in it, is missing.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the package {package} is missing: pip install {package} (it ships {Path(path).name})")
    file = Path(spec.submodule_search_locations[0]) / path
    if not file.is_file():
        raise InputError(f"{file} is missing: this release of {package} does not ship it; install the pinned one")
    return file


def read_gencode() -> pd.DataFrame:
    """GENCODE v44: `feature_id` (Ensembl gene id without version) and `feature_name`, one row a gene."""
    options = csv.ReadOptions(column_names=["feature_id", "feature_name"])
    return csv.read_csv(package_file("celltypist", GENCODE), read_options=options).to_pandas()


def ids_of(symbols: np.ndarray, gencode: pd.DataFrame) -> np.ndarray:
    """The Ensembl id of each symbol, '' where there is none.

    Where GENCODE gives several genes one name, the lowest id is taken: the others are loci found later.
    """
    first = gencode.sort_values("feature_id").drop_duplicates("feature_name").set_index("feature_name")["feature_id"]
    return first.reindex(pd.Index(symbols)).fillna("").to_numpy(str)
