"""What a change re-runs, and that all the rest keeps its bytes and dates: the table of README.md, key by key."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from censusformer.config import flatten
from censusformer.steps._tables import read_table, write_table

from .conftest import SMALL, Project
from .watch import Watch, contents

pytestmark = pytest.mark.slow

N = 3  # chunks of the small demo
MODEL = {"pretrain": 1, "evaluate": 1, "embeddings": 1, "report": 1}
TOKENS = {"tokenize": N, "manifest": 1, **MODEL}
HVG = {"hvg": N, "binning": N, "split": N, "vocab": 1, **TOKENS}
# From the first step that runs to the page. Behind `select` a dry run knows gather steps alone.
FROM = {
    "select": {"select": 1, "genes": 1, "vocab": 1, "manifest": 1, **MODEL},
    "genes": {"genes": 1, **HVG},
    "hvg": HVG,
    "shared_hvg": {"shared_hvg": 1, "binning": N, **TOKENS},
    "edges": {"edges": 1, "binning": N, **TOKENS},
    "binning": {"binning": N, **TOKENS},
    "split": {"split": N, **TOKENS},
    "tokenize": TOKENS,
    "pretrain": MODEL,
    "evaluate": {"evaluate": 1, "report": 1},
    "embeddings": {"embeddings": 1, "report": 1},
    "report": {"report": 1},  # the page shows all settings
    "finetune": {"finetune": 1, "integrate": 1, "report": 1},
    "ingest": {"ingest": 1, "select": 1, "genes": 1, "vocab": 1, "manifest": 1, **MODEL},
}
TABLE = [
    ("run", "other", "pretrain"),
    ("dataset", "other", "select"),
    ("census.version", "2025-11-08", "select"),
    ("census.uri", "elsewhere", "select"),
    ("census.h5ad", ["config.yaml"], "ingest"),
    ("census.organism", "mus_musculus", "select"),
    ("census.filter", "is_primary_data == True", "select"),
    ("census.seed", 1, "select"),
    ("census.max_cells", 1801, "select"),
    ("census.test_cells", 301, "select"),
    ("census.test_datasets", ["some"], "select"),
    ("census.min_cells_per_sample", 51, "select"),
    ("census.max_cells_per_sample", 29000, "select"),
    ("census.unnamed_donors", True, "select"),
    ("chunk.cells", 801, "select"),
    ("filter.min_counts_per_gene", 4, "genes"),
    ("filter.min_genes_per_cell", 41, "hvg"),
    ("hvg.n_top", 600, "hvg"),
    ("hvg.flavor", "seurat_v3_paper", "hvg"),
    ("hvg.span", 0.5, "hvg"),
    ("hvg.scope", "all", "shared_hvg"),
    ("normalize.target_sum", 5000, "report"),
    ("normalize.log1p", False, "report"),
    ("binning.method", "global", "edges"),
    ("binning.n_bins", 11, "binning"),
    ("binning.ties", "middle", "binning"),
    ("binning.seed", 1, "binning"),
    ("split.valid_fraction", 0.04, "split"),
    ("split.by", "sample", "split"),
    ("split.seed", 1, "split"),
    ("tokenize.min_genes", 11, "tokenize"),
    ("tokenize.seed", 1, "tokenize"),
    ("mask.ratios", [0.3], "pretrain"),
    ("mask.draw", "run", "pretrain"),
    ("model.n_layers", 1, "pretrain"),
    ("model.d_model", 16, "pretrain"),
    ("model.n_heads", 2, "pretrain"),
    ("model.d_ff", 32, "pretrain"),
    ("model.dropout", 0.2, "pretrain"),
    ("train.epochs", 3, "pretrain"),
    ("train.batch_size", 16, "pretrain"),
    ("train.lr", 1.0e-3, "pretrain"),
    ("train.seed", 1, "pretrain"),
    ("train.recipe", "reference", "pretrain"),
    ("train.max_steps", 5, "pretrain"),
    ("train.weight_decay", 0.1, "pretrain"),
    ("train.early_stopping", 2, "pretrain"),
    ("train.init_from", "config.yaml", "pretrain"),
    ("evaluate.ratios", [0.5], "evaluate"),
    ("evaluate.ridge_components", 5, "evaluate"),
    ("evaluate.max_cells", 100, "evaluate"),
    ("embeddings.cells", 200, "embeddings"),
    ("embeddings.umap_cells", 0, "embeddings"),
    ("embeddings.scvi", True, "embeddings"),
    ("finetune.tasks", ["annotation", "integration"], "finetune"),
    ("finetune.h5ad", "README.md", "report"),  # no task, nothing to run
    ("finetune.layer", "counts", "report"),
    ("finetune.min_coverage", 0.4, "report"),
    ("finetune.label", "kind", "report"),
    ("finetune.person", "donor_id", "report"),
    ("finetune.batch", "assay", "report"),
    ("finetune.mode", "full", "report"),
    ("finetune.folds", 3, "report"),
    ("finetune.seeds", [1, 2], "report"),
    ("finetune.unknown", 0.7, "report"),
]
EXECUTION = {
    "devices": 2,
    "nodes": 2,
    "num_workers": 0,
    "precision": "bf16",
    "compile": True,
    "attention": "padded",
    "log_every": 7,
    "checkpoint_minutes": 1,
    "max_tokens": 5000,
    "memory": 9,
}


@pytest.fixture(scope="module")
def planned(small_demo, tmp_path_factory):
    """For dry runs, which write nothing."""
    project = small_demo.copy(tmp_path_factory.mktemp("reruns") / "copy")
    before = contents(project.path(""))
    yield project
    assert contents(project.path("")) == before


def changed(**changes):
    """SMALL with some dotted keys changed."""
    tree = {section: dict(keys) for section, keys in SMALL.items()}
    for key, value in changes.items():
        section, _, leaf = key.partition(".")
        if leaf:
            tree.setdefault(section, {})[leaf] = value
        else:
            tree[section] = value
    return tree


def jobs_of(shown):
    """{rule: jobs} of a dry run, without the targets and the settings' own text."""
    table = shown.rpartition("Job stats:")[2].strip().split("\n\n")[0]
    found = (re.fullmatch(r"(?:cf_)?(\w+) +(\d+)", line.strip()) for line in table.splitlines())
    ignored = ("all", "total", "effective_config")
    return {match[1]: int(match[2]) for match in found if match and match[1] not in ignored}


def plan(project, *args, **overrides):
    shown = project.run("-n", *args, **(overrides or SMALL))
    jobs = jobs_of(shown)
    assert jobs or "Nothing to be done" in shown or "effective_config" in shown, shown
    return jobs


def test_every_key_is_in_the_table(root):
    config = flatten(yaml.safe_load((root / "config.yaml").read_text()))
    covered = {key for key, _, _ in TABLE} | {f"execution.{key}" for key in EXECUTION}
    assert covered == config.keys()


@pytest.mark.parametrize(("key", "value", "first"), TABLE, ids=[key for key, _, _ in TABLE])
def test_a_changed_key_runs_its_step_and_what_follows(planned, key, value, first):
    more = {"census.uri": None} if key in ("census.version", "census.h5ad") else {}
    more |= {"finetune.h5ad": "config.yaml"} if key == "finetune.tasks" else {}  # a file that is there
    assert plan(planned, **changed(**{key: value, **more})) == FROM[first]


def test_execution_runs_nothing(planned):
    assert "Nothing to be done" in planned.run("-n", **{**SMALL, "execution": EXECUTION})


def test_threads_and_memory_run_nothing(planned):
    limits = ["--set-threads", "pretrain=1", "--set-resources", "hvg:mem_mb=9000", "pretrain:runtime=9"]
    assert "Nothing to be done" in planned.run("-n", *limits, **SMALL)


@pytest.mark.parametrize(
    ("change", "made", "first"),
    [({"hvg.flavor": "seurat"}, [], "hvg"), ({"binning.method": "global"}, ["demo/edges.parquet"], "edges")],
    ids=["flavor", "global bins"],
)
def test_normalisation_counts_where_it_is_used(copied, change, made, first):
    for name in made:
        copied.path(name).touch()
    copied.run("--touch", *(["--forcerun", "edges"] if made else []), **changed(**change))
    assert plan(copied, **changed(**change)) == {}
    assert plan(copied, **changed(**change, **{"normalize.target_sum": 5000})) == FROM[first]


# Data


def test_more_cells_and_the_same_genes_run_new_chunks_alone(copied):
    """A second data set's name downloads nothing; a larger cap downloads and prepares its new chunks alone."""
    few = {
        "dataset": "other",
        "filter.min_counts_per_gene": 12600,  # no gene of the demo crosses it by the larger cap
        "filter.min_genes_per_cell": 2,
        "tokenize.min_genes": 2,
    }
    targets, watch = ("results/other/shards.json", "results/other/vocab.json"), Watch(copied)
    copied.run(*targets, **changed(**few))
    assert watch.rules() == {"select": 1, "genes": 1, **{k: v for k, v in HVG.items() if k not in MODEL}}
    lists = copied.path("other/chunks")
    old = {path.stem for path in lists.iterdir() if path.suffix}
    genes, kept = (copied.path(f"other/{name}.parquet").read_bytes() for name in ("gene_list", "genes"))
    watch = Watch(copied)
    copied.run(*targets, **changed(**few, **{"census.max_cells": 2600}))
    assert copied.path("other/gene_list.parquet").read_bytes() == genes
    assert copied.path("other/genes.parquet").read_bytes() != kept
    new = {path.stem for path in lists.iterdir() if path.suffix} - old
    each = {"download", "count", "hvg", "binning", "split", "tokenize"}
    once = {(rule, "") for rule in ("select", "genes", "vocab", "manifest")}
    assert new
    assert watch.jobs() == {(rule, chunk) for rule in each for chunk in new} | once


def test_a_sample_taken_away_touches_two_chunks_at_most(copied):
    samples = pq.read_table(copied.path("demo/samples.parquet")).to_pandas()
    gone = samples[samples["status"] == "train"].sort_values("order")["donor_id"].iloc[2]
    old, watch = {path.name for path in copied.path("demo/chunks").glob("*.parquet")}, Watch(copied)
    one_less = f"is_primary_data == True and tissue_general == 'blood' and donor_id != '{gone}'"
    copied.run("results/demo/samples.parquet", **changed(**{"census.filter": one_less}))
    new = {path.name for path in copied.path("demo/chunks").glob("*.parquet")}
    assert gone not in pq.read_table(copied.path("demo/samples.parquet"))["donor_id"].to_pylist()
    assert 1 <= len(new - old) <= 2
    assert watch.rules() == {"select": 1}


def test_other_totals_of_the_same_genes_prepare_nothing_anew(copied):
    counts = next(copied.path("census").glob("*.counts.parquet"))
    table = read_table(counts, ("feature_id", "feature_name", "total", "n_cells"))
    more = pc.add(table["total"], pc.if_else(pc.greater(table["total"], 100), 1, 0).cast(table["total"].type))
    write_table(counts, table.set_column(table.column_names.index("total"), "total", more))
    watch = Watch(copied)
    copied.run("results/demo/base/best_model.pt", **SMALL)
    assert watch.rules() == {"genes": 1}
    assert plan(copied) == {"report": 1}


# Code


def edit(project, *modules, text="\nEDITED = 1\n"):
    for module in modules:
        file = project.folder / f"src/censusformer/{module}.py"
        file.write_text(file.read_text() + text)


@pytest.fixture
def source(planned):
    """The project for dry runs, whose source may be edited."""
    src = planned.folder / "src"
    kept = {path: path.read_text() for path in src.rglob("*.py")}
    yield planned
    for path, text in kept.items():
        path.write_text(text)


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        ("steps/genes", FROM["genes"]),
        ("expression/hvg", FROM["hvg"]),
        ("steps/split", FROM["split"]),
        ("tokens/masking", FROM["pretrain"]),
        ("training/trainer", FROM["pretrain"]),
        ("evaluation/ridge", FROM["evaluate"]),
        ("evaluation/integration", FROM["embeddings"]),
        ("report/figures", FROM["report"]),
        ("census/choose", FROM["select"]),
        ("cli", {}),
        ("errors", {"demo": 1, **FROM["select"]}),
    ],
)
def test_an_edited_module_runs_the_steps_that_import_it(source, module, steps):
    edit(source, module)
    assert plan(source) == steps


def test_comments_and_docstrings_run_nothing(source):
    for file in (source.folder / "src").rglob("*.py"):
        text = file.read_text()
        if text.startswith('"""'):
            text = text.replace('"""', '"""Better explained. ', 1)
        file.write_text(f"# of the reader's interest\n{text}\n\n# the end\n")
    assert plan(source) == {}


def test_an_edit_of_a_preparation_that_gives_the_same_shards_does_not_train(copied):
    edit(copied, "steps/tokenize")
    watch = Watch(copied)
    copied.run("results/demo/base/best_model.pt", **SMALL)
    assert watch.rules() == {"tokenize": N, "manifest": 1}
    assert plan(copied) == {}


def test_touch_says_that_an_edit_changes_no_result(copied):
    """README's way for `download` and `pretrain`: nothing runs, bytes stay, and the next edit counts again."""
    edit(copied, "census/query", "tokens/masking")  # of download and of pretrain
    before = {path: path.read_bytes() for path in copied.path("").rglob("*") if path.is_file()}
    copied.run("--touch", **SMALL)
    assert plan(copied) == {}
    assert all(path.read_bytes() == content for path, content in before.items())
    edit(copied, "tokens/masking", text="\nEDITED = 2\n")
    assert plan(copied) == FROM["pretrain"]
    copied.run("--touch", "--until", "pretrain", **SMALL)
    assert plan(copied) == {rule: 1 for rule in MODEL if rule != "pretrain"}


def test_two_causes_at_once(copied):
    """A choice that comes out the same, and a setting of training: Snakemake must not forget the latter."""
    both = changed(**{"census.max_cells": 1801, "train.max_steps": 2})
    watch = Watch(copied)
    copied.run("results/demo/base/best_model.pt", **both)
    assert watch.rules() == {"select": 1, "pretrain": 1}


def test_through_a_module_of_another_workflow(copied, tmp_path):
    """Nothing runs in a folder with the same results; an edit of ours counts there."""
    outer = Project.at(tmp_path / "outer")
    outer.folder.mkdir()
    (outer.folder / "Snakefile").write_text(
        f"configfile: {str(copied.folder / 'config.yaml')!r}\n\n\nmodule censusformer:\n"
        f"    snakefile: {str(copied.folder / 'Snakefile')!r}\n    config: config\n\n\n"
        "use rule * from censusformer as cf_*\n\n\nrule all:\n    default_target: True\n    input: rules.cf_all.input\n"
    )
    for part in ("results", ".snakemake"):
        shutil.copytree(copied.folder / part, outer.folder / part, symlinks=True)
    assert plan(outer) == {}
    edit(copied, "tokens/masking")
    assert plan(outer) == FROM["pretrain"]
    watch = Watch(outer)
    outer.run("results/demo/small/best_model.pt", **changed(**{"run": "small", "train.max_steps": 2}))
    assert watch.rules() == {"pretrain": 1}


@pytest.fixture
def conda(tmp_path, monkeypatch):
    """A conda that answers what Snakemake asks before a plan, and can do nothing else."""
    command = tmp_path / "bin/conda"
    command.parent.mkdir()
    info = '{"conda_prefix": "/opt/conda", "platform": "linux-64", "conda_version": "24.7.1"}'
    priority = '{"get": {"channel_priority": "strict"}}'
    command.write_text(f"""#!/bin/sh\ncase $1 in
info) echo '{info}' ;;\n--version) echo conda 24.7.1 ;;\nconfig) echo '{priority}' ;;\n*) exit 1\nesac\n""")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")


def slurm(project):
    """Arguments that give the settings of the profile slurm to a machine without a cluster."""
    settings = yaml.safe_load((project.folder / "slurm/config.v9+.yaml").read_text())
    here = {key: value for key, value in settings.items() if key != "executor" and not key.startswith("slurm-")}
    assert {"set-resources", "default-resources", "retries"} <= here.keys()
    (project.folder / "here").mkdir(exist_ok=True)
    (project.folder / "here/config.v9+.yaml").write_text(yaml.safe_dump(here))
    return ["--profile", "here"]


@pytest.mark.parametrize("with_conda", [False, True], ids=["slurm", "conda"])
def test_settings_and_code_count_as_they_do_elsewhere(source, conda, with_conda):
    """What was made without a profile, and without conda, stands; an edit runs the same steps."""
    conda_alone = ["--rerun-triggers", "code", "input", "mtime", "params", "--sdm", "conda"]
    how = conda_alone if with_conda else slurm(source)
    assert plan(source, *how) == {}
    edit(source, "tokens/masking")
    assert plan(source, *how) == FROM["pretrain"]


def test_conda_is_other_software_until_touch_says_that_it_is_not(copied, conda):
    assert plan(copied, "--sdm", "conda") == {"demo": 1, **FROM["select"]}
    copied.run("--touch", "--sdm", "conda", **SMALL)
    assert plan(copied, "--sdm", "conda") == {}
    environment = copied.folder / "envs/report.yaml"
    environment.write_text(environment.read_text() + "  - one-more\n")
    assert plan(copied, "--sdm", "conda") == FROM["report"]


# Training


def test_more_epochs_go_on_where_the_recipe_allows_it(copied):
    settings = {"run": "reference", "train.recipe": "reference"}
    target, log = "results/demo/reference/best_model.pt", copied.path("demo/reference/logs/pretrain.log")
    copied.run(target, **changed(**settings, **{"train.epochs": 1}))
    watch = Watch(copied)
    copied.run(target, **changed(**settings, **{"train.epochs": 2}))
    said = log.read_text()
    assert watch.rules() == {"pretrain": 1}
    assert "the finished run of 1 epochs goes on to 2" in said
    assert "epoch 2: valid" in said and "epoch 1: valid" not in said


def test_an_interrupted_training_goes_on_and_no_other_setting_picks_it_up(copied, tmp_path):
    """Killed with Snakemake itself: the same setting goes on, another one does not; what is stale can be removed."""
    long = changed(**{"run": "cut", "train.epochs": 12, "execution.checkpoint_minutes": 0.001})
    (copied.folder / "long.yaml").write_text(yaml.safe_dump(long))
    target, work = "results/demo/cut/best_model.pt", copied.path("demo/cut/work")
    command = [sys.executable, "-m", "snakemake", target, "--cores", "2", "--configfile", "long.yaml"]
    with subprocess.Popen(
        command, cwd=copied.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while process.poll() is None and not list(work.glob("*/best_model.pt")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    (left,) = work.iterdir()
    shutil.copytree(left, tmp_path / "kept")
    copied.run("--unlock", **SMALL)
    log = copied.path("demo/cut/logs/pretrain.log")
    copied.run(target, **long)
    assert "going on from step" in log.read_text() and "epoch 0: valid" not in log.read_text()
    shutil.rmtree(left)
    shutil.copytree(tmp_path / "kept", left)
    other = changed(**{"run": "cut", "train.max_steps": 2})
    copied.run(target, "results/demo/cut/config.yaml", **other)
    assert "holds an unfinished run with another train.epochs, train.max_steps: not used" in log.read_text()

    def clean(*words):
        command = [str(copied.folder / "workflow/bin/censusformer"), "clean", *words]
        return subprocess.run(command, cwd=copied.folder, capture_output=True, text=True, check=True,
                              env={**os.environ, "CENSUSFORMER_PYTHON": sys.executable}).stderr  # fmt: skip

    assert f"would remove {left.relative_to(copied.folder)}" in clean("--dry-run")
    assert left.exists()
    clean()
    assert not left.exists()
