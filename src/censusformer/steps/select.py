"""Reads a census's obs; writes the list of each chunk's cells, the fate of every sample, and the data's provenance.

Nothing is downloaded here: samples, cells, gigabytes and hours to expect are logged before any counts are read.
"""

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledbsoma

from censusformer import files
from censusformer.census import choose, query
from censusformer.census.open import Source, experiment, open_census, resolve, uri_name
from censusformer.census.provenance import cells_by_stage, provenance
from censusformer.errors import InputError
from censusformer.files import atomic_folder
from censusformer.hashing import cell_keys
from censusformer.steps._tables import write_table

logger = logging.getLogger("censusformer")

# Rough figures for the forecast. Disk: a non-zero count of a chunk takes about 2.1 bytes as uint16, shuffled and
# compressed (measured on real blood). Download: TileDB moves about 4 bytes for it, at 10 MB/s by the internet;
# a local disk reads 20,000 cells/s. A cell of blood has about 1,500 non-zero counts where the census does not say.
_DISK_BYTES = 2.1
_MOVED_BYTES = 4
_BYTES_PER_SECOND = 10e6
_LOCAL_CELLS_PER_SECOND = 20_000
_NNZ = 1500

_SETTINGS = (
    "census.organism",
    "census.filter",
    "census.seed",
    "census.max_cells",
    "census.test_cells",
    "census.test_datasets",
    "census.min_cells_per_sample",
    "census.max_cells_per_sample",
    "census.unnamed_donors",
    "chunk.cells",
)


@dataclass(frozen=True)
class CellList:
    """The chosen cells of one chunk, samples in the order, cells of a sample by joinid."""

    name: str
    status: str
    table: pa.Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--census-version", help="a release of the Census: stable, or a date such as 2025-11-08")
    where.add_argument("--census-uri", help="a SOMA in the Census's layout: a folder or s3://...")
    add("--name", help="what chunk names begin with (default: the release's date, or from the uri)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write: a Parquet list for each chunk")
    add("--samples", type=Path, required=True, help="Parquet file to write: every sample met, chosen or why not")
    add("--provenance", type=Path, required=True, help="JSON file to write: where the cells come from")
    add("--resolved", type=Path, help="JSON file that remembers the date that `stable` stood for")
    add("--census-organism", default="homo_sapiens", help="homo_sapiens, mus_musculus, ...")
    add("--census-filter", default="is_primary_data == True", help="SOMA value filter over obs")
    add("--census-seed", type=int, default=0, help="decides the order of the samples")
    add("--census-max-cells", type=int, help="test and training cells together, at most (default: no limit)")
    add("--census-test-cells", type=int, default=0, help="cells of held-out samples, at most; 0: no test set")
    add("--census-test-datasets", nargs="*", default=[], help="dataset_ids held out whole")
    add("--census-min-cells-per-sample", type=int, default=50, help="smaller samples are left out")
    add("--census-max-cells-per-sample", type=int, default=30_000, help="larger samples are left out")
    add(
        "--census-unnamed-donors",
        choices=("true", "false"),
        default="false",
        help="whether donors called unknown, pooled, na or nothing count as samples",
    )
    add("--chunk-cells", type=int, default=20_000, help="cells of whole samples that one job works on, about")


def run(args: argparse.Namespace) -> None:
    """Choose samples and list their cells by chunk."""
    source = _source(args)
    with open_census(source) as census:
        cells = experiment(census, source)
        selection = query.select_cells(cells, args.census_filter)
        datasets = query.read_datasets(census)
        samples = _samples(selection, datasets)
        choices = choose.choose(samples, _rules(args))
        _forecast(choices, selection, source)
        lists = _lists(choices, selection, cells, args, _Digest(source, datasets))
        record = provenance(
            census={"asked": args.census_version or args.census_uri, "version": source.version, "uri": source.uri},
            summary=query.read_summary(census),
            settings={key: getattr(args, key.replace(".", "_")) for key in _SETTINGS},
            choices=choices,
            datasets=datasets,
            chunks={status: sorted(x.name for x in lists if x.status == status) for status in ("train", "test")},
            n_census=cells.obs.count,
        )
    _write(args, lists, choices, record, source)


def _source(args: argparse.Namespace) -> Source:
    if args.census_version is None:
        return Source(args.census_organism, args.name or uri_name(args.census_uri), uri=args.census_uri)
    date = resolve(args.census_version, args.resolved)
    if date != args.census_version:
        logger.info("Census %s is the release of %s", args.census_version, date)
    return Source(args.census_organism, args.name or date, version=date)


def _rules(args: argparse.Namespace) -> choose.Rules:
    for key in ("census_max_cells", "census_min_cells_per_sample", "census_max_cells_per_sample", "chunk_cells"):
        value = getattr(args, key)
        if value is not None and value < 1:
            raise InputError(f"{key.replace('_', '.', 1)} is {value}: it is at least 1")
    return choose.Rules(
        seed=args.census_seed,
        max_cells=args.census_max_cells,
        test_cells=args.census_test_cells,
        test_datasets=tuple(args.census_test_datasets),
        min_cells_per_sample=args.census_min_cells_per_sample,
        max_cells_per_sample=args.census_max_cells_per_sample,
        unnamed_donors=args.census_unnamed_donors == "true",
    )


def _samples(selection: query.Selection, datasets: pd.DataFrame) -> list[choose.Sample]:
    collection_of = datasets["collection_id"].to_dict() if "collection_id" in datasets else {}
    collections = [collection_of.get(dataset) or dataset for dataset, _ in selection.samples]
    persons = choose.persons(selection.samples, collections, selection.persons)
    return [
        choose.Sample(dataset, donor, int(n_cells), people)
        for (dataset, donor), n_cells, people in zip(selection.samples, selection.n_cells, persons, strict=True)
    ]


def _forecast(choices: Sequence[choose.Choice], selection: query.Selection, source: Source) -> None:
    """Log what to expect, and why samples are left out."""
    stages = cells_by_stage(choices, 0)
    for status, what in (("train", "training"), ("test", "test")):
        n_samples = sum(choice.status == status for choice in choices)
        logger.info("%s: samples %s, cells %s", what, f"{n_samples:,}", f"{stages[status]:,}")
    chosen = {(choice.sample.dataset_id, choice.sample.donor_id) for choice in choices if choice.status != "out"}
    if selection.nnz is None:
        nnz = _NNZ * stages["chosen"]
    else:
        rows = np.array([sample in chosen for sample in selection.samples])[selection.sample]
        nnz = int(selection.nnz[rows].sum())
    seconds = nnz * _MOVED_BYTES / _BYTES_PER_SECOND if source.is_remote else stages["chosen"] / _LOCAL_CELLS_PER_SECOND
    logger.info(
        "to download: %s cells; about %.2f GB on disk and %s, less what is there already",
        f"{stages['chosen']:,}",
        nnz * _DISK_BYTES / 1e9,
        f"{seconds / 3600:.1f} hours" if seconds > 3600 else f"{max(1, round(seconds / 60))} min",
    )
    for reason, n_samples, n_cells in choose.left_out(choices):
        logger.info("left out, %s: samples %s, cells %s", reason, f"{n_samples:,}", f"{n_cells:,}")


@dataclass(frozen=True)
class _Digest:
    """The digest of what a chunk holds: half of its name."""

    source: Source
    datasets: pd.DataFrame

    def __call__(self, keys: np.ndarray, dataset_ids: Sequence[str]) -> str:
        """First 12 hex digits of sha256 over organism, sorted cell keys and what pins the datasets' counts.

        A release's date pins its counts. Elsewhere the datasets' `counts_digest` does (the demo, one's own files), or
        their `dataset_version_id` (a copy of the Census).
        """
        digest = hashlib.sha256(f"{self.source.organism}\n".encode())
        digest.update(np.sort(keys).astype(">u8"))
        if self.source.uri is not None:
            column = "counts_digest" if "counts_digest" in self.datasets else "dataset_version_id"
            pins = self.datasets.get(column, pd.Series(dtype=object)).to_dict()
            digest.update(json.dumps([[name, pins.get(name)] for name in sorted(dataset_ids)]).encode())
        return digest.hexdigest()[:12]


def _lists(
    choices: Sequence[choose.Choice],
    selection: query.Selection,
    cells: tiledbsoma.Experiment,
    args: argparse.Namespace,
    digest: _Digest,
) -> list[CellList]:
    """The lists of all chunks."""
    cut = {
        "train": choose.training_chunks(choices, args.census_seed, args.chunk_cells),
        "test": choose.held_out_chunks(choices, args.census_seed, args.chunk_cells),
    }
    position = {sample: place for place, sample in enumerate(selection.samples)}
    rows = _rows_by_sample(selection)
    names = _observation_names(cells, selection, choices)
    lists = []
    for status, chunks in cut.items():
        for chunk in chunks:
            parts = [
                _sample_table(s, selection.joinid[rows[position[s.dataset_id, s.donor_id]]], names, status)
                for s in chunk
            ]
            table = pa.concat_tables(parts)
            digits = digest(table["cell"].to_numpy(), sorted({s.dataset_id for s in chunk}))
            lists.append(CellList(f"{digest.source.name}-{digits}", status, table))
    return lists


def _rows_by_sample(selection: query.Selection) -> list[np.ndarray]:
    """The rows of each sample, rising."""
    order = np.argsort(selection.sample, kind="stable")
    return np.split(order, np.cumsum(selection.n_cells)[:-1])


def _observation_names(
    cells: tiledbsoma.Experiment, selection: query.Selection, choices: Sequence[choose.Choice]
) -> pd.Series:
    """`observation_joinid` of the chosen cells, by joinid; the other cells' are never read."""
    chosen = {(choice.sample.dataset_id, choice.sample.donor_id) for choice in choices if choice.status != "out"}
    wanted = np.array([sample in chosen for sample in selection.samples])[selection.sample]
    joinid = selection.joinid[wanted]
    return pd.Series(query.observation_names(cells, joinid), index=joinid, dtype=object)


def _sample_table(sample: choose.Sample, joinid: np.ndarray, names: pd.Series, status: str) -> pa.Table:
    observations = names.loc[joinid].tolist()
    n_cells = len(joinid)
    return pa.table(
        {
            "cell": cell_keys([sample.dataset_id] * n_cells, observations),
            "soma_joinid": joinid,
            "sample": [sample.name] * n_cells,
            "dataset_id": [sample.dataset_id] * n_cells,
            "donor_id": [sample.donor_id] * n_cells,
            "status": [status] * n_cells,
            "observation_joinid": observations,
        }
    )


def _samples_table(choices: Sequence[choose.Choice]) -> pa.Table:
    samples = [choice.sample for choice in choices]
    return pa.table(
        {
            "sample": [sample.name for sample in samples],
            "dataset_id": [sample.dataset_id for sample in samples],
            "donor_id": [sample.donor_id for sample in samples],
            "person": ["; ".join(sorted(sample.persons)) for sample in samples],
            "n_cells": pa.array([sample.n_cells for sample in samples], pa.int64()),
            "status": [choice.status for choice in choices],
            "reason": [choice.reason for choice in choices],
            "order": pa.array(range(len(samples)), pa.int64()),
        }
    )


def _write(
    args: argparse.Namespace,
    lists: Sequence[CellList],
    choices: Sequence[choose.Choice],
    record: Mapping[str, object],
    source: Source,
) -> None:
    """All lists or none: the folder gets its name last."""
    with atomic_folder(args.out) as folder:
        folder.mkdir()
        for chunk in lists:
            table = chunk.table.replace_schema_metadata({b"census": source.to_json().encode()})
            write_table(folder / f"{chunk.name}.parquet", table)
        write_table(args.samples, _samples_table(choices))
        with files.atomic(args.provenance) as temporary:
            temporary.write_text(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    logger.info("chunks: %d, listed in %s", len(lists), args.out)
