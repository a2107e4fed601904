"""All that the step `report` reads, made small: tables as the other steps write them, with known numbers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from censusformer.hashing import cell_keys
from censusformer.tokens.cells import Categories, Cells
from censusformer.tokens.shards import ShardMeta, file_sha256, write_shard
from censusformer.tokens.vocabulary import Vocabulary

N_BINS, N_TOP, N_GENES = 51, 60, 300
FLOOR = 40.0
BASELINES = {
    "constant": 204.6,
    "gene_mean": 160.7,
    "gene_mean_shift": 162.5,
    "gene_dataset_mean": 155.1,
    "ridge": 144.9,
}
MODEL = {"gep": 142.0, "gepc": 145.1}
ARGS = {
    "model": {"n_layers": 2, "d_model": 32},
    "parameters": {"total": 231000},
    "result": {"cells_per_second": 1250.4},
}
LEAKAGE = {
    "persons": {"recorded": True, "train": 5, "test": 1, "shared": []},
    "samples": {"train": 5, "test": 1, "shared": []},
    "cells": [{"one": "train", "other": "test", "n": [398, 103], "same_key": 0, "same_counts": 2, "same_genes": 3,
               "longest": 12, "named": ["00000000000000ff"]}],
}  # fmt: skip
SETTINGS = "binning:\n  method: cell\ndataset: blood\nhvg:\n  n_top: 60\nrun: base\n"


def write_inputs(
    folder: Path,
    *,
    model: dict[str, float] | None = None,
    test: bool = True,
    unseen: bool = False,
    n_samples: int = 6,
    note: str = "",
    donor: str = "donor-0",
) -> list[str]:
    """Write everything under `folder`; returns the options of the step.

    Parameters
    ----------
    model
        The model's error on test cells by head.
    test
        Whether samples were held out.
    unseen
        Whether the test samples are also measured on a data set that was not trained on.
    donor
        The name of the first donor.
    """
    samples = sample_table(n_samples, test=test, donor=donor)
    chosen = samples[samples["status"] != "out"]
    cells = cell_table(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    samples.to_parquet(folder / "samples.parquet", index=False)
    for kind in ("hvg", "cells", "split"):
        (folder / kind).mkdir(exist_ok=True)
    hvg = hvg_table(chosen["sample"])
    hvg.to_parquet(folder / "hvg/chunk-0.parquet", index=False)
    cells.drop(columns="split").to_parquet(folder / "cells/chunk-0.parquet", index=False)
    cells[["cell", "split"]].to_parquet(folder / "split/chunk-0.parquet", index=False)
    vocab = vocabulary(hvg)
    vocab.write(folder / "vocab.json")
    genes = {"feature_id": vocab.genes, "feature_name": vocab.names, "total": 9, "n_cells": 5}
    pd.DataFrame(genes).to_parquet(folder / "genes.parquet", index=False)
    write_shards(folder, cells, vocab)
    told = {**provenance(samples), "census_summary": {"note": note} if note else {}}
    (folder / "provenance.json").write_text(json.dumps(told))
    (folder / "args.json").write_text(json.dumps(ARGS))
    metrics().to_csv(folder / "metrics.csv", index=False)
    (folder / "evaluation").mkdir(exist_ok=True)
    reconstruction(model or MODEL, test=test, unseen=unseen).to_parquet(folder / "evaluation/reconstruction.parquet")
    (folder / "evaluation/summary.json").write_text(json.dumps({"splits": {}}))
    (folder / "evaluation/leakage.json").write_text(json.dumps(LEAKAGE))
    write_benchmarks(folder)
    return options(folder)


def options(folder: Path) -> list[str]:
    """The step's options for the files that `write_inputs` wrote."""
    names = {
        "samples": "samples.parquet", "provenance": "provenance.json", "genes": "genes.parquet",
        "hvg": "hvg/chunk-0.parquet", "cells": "cells/chunk-0.parquet", "split": "split/chunk-0.parquet",
        "shards": "shards.json", "vocab": "vocab.json", "metrics": "metrics.csv", "model-args": "args.json",
        "evaluation": "evaluation", "benchmarks": "benchmarks", "out": "report.html",
    }  # fmt: skip
    files = [word for name, file in names.items() for word in (f"--{name}", str(folder / file))]
    return ["report", *files, "--settings", SETTINGS]


def sample_table(n: int, *, test: bool, donor: str) -> pd.DataFrame:
    """`n` chosen samples of three data sets, the last sixth held out, and three that were left out."""
    names = [donor, *(f"donor-{i}" for i in range(1, n))]
    status = np.where(test & (np.arange(n) >= n - max(1, n // 6)), "test", "train")
    chosen = pd.DataFrame({"donor_id": names, "dataset_id": [f"set-{i % 3}" for i in range(n)], "status": status,
                           "n_cells": [80 + 7 * (i % 11) for i in range(n)], "reason": ""})  # fmt: skip
    small = "fewer than 50 cells"
    out = pd.DataFrame({"donor_id": ["unknown", "small", "smaller"], "dataset_id": "set-0", "status": "out",
                        "n_cells": [500, 20, 10], "reason": ["the donor is not known", small, small]})  # fmt: skip
    table = pd.concat([chosen, out], ignore_index=True)
    table["sample"] = table["dataset_id"] + ":" + table["donor_id"]
    table["order"] = np.arange(len(table))
    return table


def cell_table(chosen: pd.DataFrame) -> pd.DataFrame:
    """Nine in ten cells of each chosen sample, with QC and their split."""
    rng = np.random.default_rng(0)
    kept = (chosen["n_cells"] * 9 // 10).to_numpy()
    table = chosen.loc[chosen.index.repeat(kept), ["sample", "dataset_id", "donor_id", "status"]].reset_index(drop=True)
    depth = np.repeat(rng.uniform(0.4, 2.5, len(kept)), kept)
    table["cell"] = cell_keys(table["dataset_id"], map(str, range(len(table))))
    table["soma_joinid"] = np.arange(len(table))
    table["cell_type"] = "T cell"
    table["n_counts"] = (depth * rng.lognormal(7, 0.4, len(table))).astype(np.int64)
    table["n_genes"] = (table["n_counts"] ** 0.85).astype(np.int64)
    table["split"] = np.where(
        table["status"] == "test", "test", np.where(np.arange(len(table)) % 20 == 0, "valid", "train")
    )
    return table.drop(columns="status")


def hvg_table(samples: pd.Series) -> pd.DataFrame:
    """Each sample selects `N_TOP` genes: a half that all share, and a half of its own."""
    rng = np.random.default_rng(1)
    lists = [np.r_[np.arange(N_TOP // 2), rng.choice(np.arange(N_TOP // 2, N_GENES), N_TOP // 2, replace=False)]
             for _ in samples]  # fmt: skip
    ids = [f"ENSG{gene:05d}" for gene in np.concatenate(lists)]
    rank = np.tile(np.arange(N_TOP), len(samples))
    return pd.DataFrame({"sample": np.repeat(samples.to_numpy(), N_TOP), "feature_id": ids, "score": 1.0, "rank": rank})


def vocabulary(hvg: pd.DataFrame) -> Vocabulary:
    """All genes, with how many samples selected each."""
    genes = [f"ENSG{gene:05d}" for gene in range(N_GENES)]
    counts = hvg["feature_id"].value_counts()
    return Vocabulary(tuple(genes), tuple(genes), tuple(int(counts.get(gene, 0)) for gene in genes))


def write_shards(folder: Path, cells: pd.DataFrame, vocab: Vocabulary) -> None:
    """One shard a split, and `shards.json`; one cell of training is dropped."""
    rng, splits = np.random.default_rng(2), {}
    meta = ShardMeta(N_BINS, N_TOP + 1, vocab.sha256)
    for split in ("train", "valid", "test"):
        rows = cells[cells["split"] == split].iloc[int(split == "train") :]
        lengths = rng.integers(10, N_TOP + 1, len(rows))
        genes = np.concatenate(
            [np.empty(0, np.uint16), *(np.sort(rng.choice(N_GENES, n, replace=False)) for n in lengths)]
        )
        values = rng.integers(1, N_BINS, len(genes)).astype(np.uint8)
        labels = (Categories.of(rows[name].to_numpy()) for name in ("sample", "dataset_id", "cell_type"))
        path = folder / "shards" / split / "chunk-0.parquet"
        offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
        tie_var = np.full(len(rows), 42.8, np.float32)
        write_shard(
            path, Cells(rows["cell"].to_numpy(), offsets, genes.astype(np.uint16), values, tie_var, *labels), meta
        )
        file = {
            "path": f"shards/{split}/chunk-0.parquet",
            "rows": len(rows),
            "tokens": len(genes),
            "sha256": file_sha256(path),
        }
        splits[split] = {"rows": len(rows), "tokens": len(genes), "files": [file]}
    about = {"schema_version": 1, "n_bins": N_BINS, "max_length": N_TOP + 1, "vocab_sha256": vocab.sha256}
    (folder / "shards.json").write_text(json.dumps({**about, "splits": splits}))


def provenance(samples: pd.DataFrame) -> dict:
    """As `select` writes it."""
    datasets = [
        {"dataset_id": name, "dataset_title": f"Blood of {name}", "collection_name": "Blood",
         "collection_doi": "10.1000/xyz", "citation": "Doe et al. (2020)"}
        for name in sorted(samples["dataset_id"].unique())
    ]  # fmt: skip
    return {"census": {"uri": "results/census/demo", "version": None}, "cells": {"census": 9999}, "datasets": datasets}


def metrics(epochs: int = 6, steps: int = 40) -> pd.DataFrame:
    """Falling losses: windows of training batches, epochs of all splits."""
    rows = []
    for head, shift in (("gep", 0), ("gepc", 4), ("sum", 0)):
        rows += [
            (step // steps + 1, step, "train", head, 150 + shift + 300 * np.exp(-step / 8), "window")
            for step in range(1, epochs * steps + 1, 4)
        ]
        for epoch in range(epochs + 1):
            for split, gap in (("train", 2), ("train_fixed", -4), ("valid", 0))[0 if epoch else 1 :]:
                rows.append((epoch, epoch * steps, split, head, 128 + shift + gap + 60 * np.exp(-epoch), "epoch"))
    table = pd.DataFrame(rows, columns=["epoch", "step", "split", "head", "mse", "span"])
    both = table["head"] == "sum"
    table.loc[both, "mse"] *= 2
    return table.assign(mask_ratio=np.nan, n_masked=1000, seconds=table["step"] * 0.5)


def reconstruction(model: dict[str, float], *, test: bool, unseen: bool) -> pd.DataFrame:
    """Errors whose mean over the mask ratios, weighted by n, is exactly that of `BASELINES` and `model`."""
    rows = []
    for split, level in (("valid", 0.9), ("test", 1.0))[: 1 + test]:
        for seen in (True, False)[: 1 + (unseen and split == "test")]:
            for ratio, shift in ((0.25, -9), (0.5, 0), (0.75, 3)):
                errors = [
                    (head, name, error) for head in model for name, error in {**BASELINES, "model": model[head]}.items()
                ]
                errors += [(head, "tie_floor", FLOOR) for head in model]
                for head, name, error in errors:
                    moved = error * level + (shift if name != "tie_floor" else 0)
                    rows.append((split, seen, ratio, head, name, "mse", moved, np.nan, np.nan, int(4000 * ratio)))
                    rows.append((split, seen, ratio, head, name, "spearman_cell", 0.3, np.nan, np.nan, 50))
    columns = ["split", "seen_dataset", "mask_ratio", "head", "predictor", "metric", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def write_benchmarks(folder: Path) -> None:
    """Two chunks of hvg, one of another data set, and a job that was too short to be measured."""
    columns = ["s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time"]
    jobs = {"hvg/chunk-0": (4.0, 512.5, 3.5), "hvg/elsewhere-1": (900, 9999, 9), "pretrain": (61.25, 830.2, 110),
            "vocab": (0.4, "NA", "NA")}  # fmt: skip
    for name, (seconds, memory, cpu) in jobs.items():
        path = folder / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {"s": seconds, "max_rss": memory, "cpu_time": cpu}
        path.write_text("\t".join(columns) + "\n" + "\t".join(str(values.get(name, "-")) for name in columns) + "\n")
