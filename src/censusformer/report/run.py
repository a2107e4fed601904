"""What the page is about: everything that the step read, in one place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from censusformer.report.embedded import Embedded
from censusformer.report.tables import SplitTokens


@dataclass(frozen=True)
class Run:
    """A prepared data set, the model trained on it and what was measured.

    Parameters
    ----------
    title
        `{dataset} / {run}`.
    settings
        The effective configuration as text.
    samples
        `samples.parquet`.
    provenance, args
        `provenance.json`, and the model's `args.json`.
    n_measured
        Genes that the chosen cells' data sets measure; None where `genes.parquet` does not say.
    n_genes
        Genes of the vocabulary.
    n_samples_of_gene
        int64 (n_genes,): how many samples selected each gene.
    hvg
        sample, feature_id: the selected genes of each sample.
    cells
        Kept cells: sample, n_counts, n_genes.
    n_split
        Kept cells by split, before short ones are dropped.
    tokens
        By split.
    n_bins, max_length
        Of the shards.
    metrics
        `metrics.csv`.
    reconstruction
        `evaluation/reconstruction.parquet`.
    summary
        `evaluation/summary.json`, of which only intervals are taken.
    leakage
        `evaluation/leakage.json`; empty where it was not written.
    benchmarks
        One row a job: rule, s, cpu_time, max_rss.
    embedded
        What `embeddings` wrote; None where it did not run.
    tasks
        `finetune/{task}/scores.json` by task.
    """

    title: str
    settings: str
    samples: pd.DataFrame
    provenance: Mapping
    args: Mapping
    n_measured: int | None
    n_genes: int
    n_samples_of_gene: np.ndarray
    hvg: pd.DataFrame
    cells: pd.DataFrame
    n_split: Mapping[str, int]
    tokens: Mapping[str, SplitTokens]
    n_bins: int
    max_length: int
    metrics: pd.DataFrame
    reconstruction: pd.DataFrame
    summary: Mapping
    leakage: Mapping
    benchmarks: pd.DataFrame
    embedded: Embedded | None = None
    tasks: Mapping[str, Mapping] = field(default_factory=dict)

    @property
    def test_split(self) -> str:
        """The split that the claims rest on: `test`, or `valid` where no sample was held out."""
        return "test" if (self.reconstruction["split"] == "test").any() else "valid"

    def setting(self, key: str) -> str:
        """`filter.min_genes_per_cell: 50`, read from the configuration's text; the key alone where it is not there.

        The text is YAML as Snakemake's side dumps it, a section's keys indented by two spaces: no parser is needed.
        """
        section, name = key.split(".")
        found = re.search(
            rf"^{re.escape(section)}:\n(?:  .*\n)*?  {re.escape(name)}: *(.+)$", self.settings, re.MULTILINE
        )
        return f"{key}: {found[1]}" if found else key

    def intervals(self, split: str) -> dict[tuple[str, str], tuple[float, float]]:
        """Intervals of the baseline's error less the model's, by head and baseline, where there are some."""
        heads = self.summary.get("splits", {}).get(split, {})
        return {
            (head, name): (float(duel["low"]), float(duel["high"]))
            for head, content in heads.items() if isinstance(content, Mapping)
            for name, duel in content.get("baselines", {}).items() if duel.get("low") is not None
        }  # fmt: skip


def find(content: Mapping, key: str) -> object | None:
    """The first value of this key anywhere in nested mappings, outer ones first; None where there is none."""
    if key in content:
        return content[key]
    inner = (find(value, key) for value in content.values() if isinstance(value, Mapping))
    return next((value for value in inner if value is not None), None)
