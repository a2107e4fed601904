# Settings and helpers that all rules share. Needs `config`; makes RUNS, DATA and the functions below.
import hashlib
import json
import os
import re
import subprocess
import sys
from glob import glob
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile
from snakemake.logging import logger

ROOT = Path(str(workflow.current_basedir)).parents[1]
sys.path.insert(0, str(ROOT / "src"))
from censusformer.config import DATA_SECTIONS, nest, only, options  # noqa: E402
from censusformer.digest import code_digest  # noqa: E402
from censusformer.errors import InputError  # noqa: E402
from censusformer.sweeps import cost, read_sweep  # noqa: E402

try:
    SWEEP = read_sweep(config, yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text()))
except InputError as error:
    raise WorkflowError(str(error)) from None

RUNS = SWEEP.runs
DATA = {dataset: only(settings, DATA_SECTIONS) for (dataset, _), settings in RUNS.items()}
RUN_FILES = ["best_model.pt", "report.html", "config.yaml"]
TASK_FILES = {task: f"finetune/{task}/scores.json" for task in ("annotation", "integration")}
MODELS = {Path("results", *pair, "best_model.pt"): pair for pair in RUNS}
EMBEDDED = ["embeddings", "umap", "genes", "markers", "frequency"]  # tables of the step embeddings
DEMO = "results/census/demo"
NEEDS_NORMALIZE = ("seurat", "cell_ranger")  # flavours that work on normalised, log1p values

for pair, run_settings in RUNS.items():
    path = run_settings["train.init_from"]
    if path is not None and MODELS.get(Path(path)) == pair:
        raise WorkflowError(f"train.init_from: {path} is the model of this very run; name the new one by `run`")
    if path is not None and Path(path) not in MODELS and not Path(path).is_file():
        raise WorkflowError(f"train.init_from: {path} is missing; give the best_model.pt of another run")

# The step's own process runs in the interpreter that runs Snakemake, or in the rule's conda environment, by the command
# workflow/bin/censusformer. What stands here, in the environment of the jobs, and not in `params` re-runs nothing.
CONDA = any(method.name == "CONDA" for method in workflow.deployment_settings.deployment_method)
ANY_RUN = next(iter(RUNS.values()))  # `execution` is the same for all
os.environ.update(
    PATH=os.pathsep.join([str(ROOT / "workflow/bin"), *os.get_exec_path()]),
    CENSUSFORMER_PYTHON="python" if CONDA else sys.executable,
    EXECUTION=options(ANY_RUN, only(ANY_RUN, ["execution"])),
)


def own_files(settings):
    """The h5ad files that census.h5ad names, sorted."""
    files = sorted({file for pattern in settings["census.h5ad"] for file in glob(pattern, recursive=True)})
    if not files:
        raise WorkflowError(f"census.h5ad: no file matches {', '.join(settings['census.h5ad'])}")
    return files


def ingested(settings):
    """The folder of the census that is made of one's own files, named by their list."""
    named = [settings["census.organism"], *own_files(settings)]
    digest = hashlib.sha256("\n".join(named).encode()).hexdigest()[:12]
    return f"results/census/h5ad/{digest}"


OWN = {ingested(settings): settings for settings in DATA.values() if settings["census.h5ad"]}


wildcard_constraints:
    dataset="|".join(map(re.escape, DATA)),
    run="|".join(re.escape(run) for _, run in RUNS),
    chunk=r"[\w.-]+-[0-9a-f]{12}",


def cfg(wildcards):
    """The settings of a run; a rule without {run} sees nothing but its data set's."""
    if "run" in wildcards.keys():
        return RUNS[wildcards.dataset, wildcards.run]
    return DATA[wildcards.dataset]


def settings(*keys):
    """Command-line options of these keys: hvg.n_top -> --hvg-n-top 1200."""
    return lambda wildcards: options(cfg(wildcards), keys)


def section(*names):
    """Command-line options of whole sections."""
    return lambda wildcards: options(cfg(wildcards), sorted(only(cfg(wildcards), names)))


def effective(wildcards):
    """A config that builds this one run; `execution` is left out, it changes no result."""
    chosen = {key: value for key, value in cfg(wildcards).items() if not key.startswith("execution.")}
    return yaml.safe_dump(nest(chosen), allow_unicode=True)


def code(step):
    """Digest of the step's modules: a param, so that an edit re-runs the steps that import it."""
    return code_digest(f"censusformer.steps.{step}")


def task_scores(wildcards):
    """The scores of the tasks that a run has."""
    folder = "results/{dataset}/{run}/".format(**wildcards)
    return [folder + TASK_FILES[task] for task in cfg(wildcards)["finetune.tasks"]]


def own_cells(wildcards):
    """The h5ad file of cells that tasks learn from."""
    return cfg(wildcards)["finetune.h5ad"]


def census_folder(settings):
    """The SOMA that a data set is made from where this workflow builds it; None for a Census out there."""
    if settings["census.h5ad"]:
        return ingested(settings)
    return DEMO if settings["census.uri"] == "demo" else None


# Behind a checkpoint whose file comes out the same nothing runs again, if every rule behind it has the file among its
# inputs. So the steps that gather all chunks are checkpoints; but for the names of chunks nobody asks
# `checkpoints.X.get()`: Snakemake would leave out a job whose params changed while it waited for one that need not run.
GENES = "results/{dataset}/gene_list.parquet"  # ids and names, without the totals, which change with every cell
VOCAB = "results/{dataset}/vocab.json"
SHARDS = "results/{dataset}/shards.json"  # with their checksums


def chunks(wildcards):
    """The chunks that `select` listed. A list that was deleted by hand would take its cells out without a word."""
    selected = checkpoints.select.get(dataset=wildcards.dataset).output
    found = {path.stem for path in Path(selected.chunks).glob("*.parquet")}
    listed = json.loads(Path(selected.provenance).read_text(encoding="utf-8"))["chunks"]
    if lost := {name for names in listed.values() for name in names} - found:
        raise WorkflowError(
            f"{selected.chunks} has no list of {', '.join(sorted(lost))}: delete it, and select runs anew"
        )
    return sorted(found)


def per_chunk(pattern):
    """The pattern's file for each chunk of the data set."""
    return lambda wildcards: [pattern.format(**{**dict(wildcards), "chunk": chunk}) for chunk in chunks(wildcards)]


def shards(*splits):
    """The shards of these splits. Their dates say nothing to readers, who have the checksums in SHARDS."""
    return lambda wildcards: [
        ancient(f"results/{wildcards.dataset}/shards/{split}/{chunk}.parquet")
        for split in splits
        for chunk in chunks(wildcards)
    ]


def where_given(**inputs):
    """Options for inputs that not every setting has: `shared="--shared-hvg"` where input.shared names a file."""
    return lambda wildcards, input: " ".join(
        f"{option} {input[name]}" for name, option in inputs.items() if input[name]
    )


def start(wildcards):
    """The model of another run that training starts from."""
    return cfg(wildcards)["train.init_from"] or []


def start_digest(wildcards):
    """What a model from elsewhere holds: another file of that name trains anew, whatever its date."""
    path = cfg(wildcards)["train.init_from"]
    if path is None or Path(path) in MODELS:
        return ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def grows(amount):
    """Memory or minutes that grow with each attempt."""
    return lambda wildcards, attempt: amount * attempt


def own(wildcards):
    """The settings of a data set that is made of these files."""
    return OWN[f"results/census/h5ad/{wildcards.files}"]


def census_options(wildcards):
    """Where the cells are: a folder that this workflow builds, another SOMA, or a version of the Census."""
    data = cfg(wildcards)
    if folder := census_folder(data):
        return f"--census-uri {folder} --name {'h5ad' if data['census.h5ad'] else 'demo'}"
    return options(data, ["census.uri", "census.version"])


def chunk_census(wildcards):
    """The folder that a chunk of the demo or of one's own files is read from; its date causes no download."""
    folders = {"demo": [DEMO], "h5ad": list(OWN)}.get(wildcards.chunk.rpartition("-")[0], [])
    return [ancient(folder) for folder in folders]


def hvg_settings(wildcards):
    """Normalisation belongs to the settings of the flavours that need it, and of no other."""
    keys = ["hvg.n_top", "hvg.flavor", "hvg.span", "filter.min_genes_per_cell"]
    if cfg(wildcards)["hvg.flavor"] in NEEDS_NORMALIZE:
        keys += ["normalize.target_sum", "normalize.log1p"]
    return options(cfg(wildcards), keys)


def shared_list(wildcards):
    return "results/{dataset}/hvg_shared.parquet" if cfg(wildcards)["hvg.scope"] == "all" else []


def shared_edges(wildcards):
    return "results/{dataset}/edges.parquet" if cfg(wildcards)["binning.method"] == "global" else []


def binning_settings(wildcards):
    """Per-cell quantiles come from the counts as they are: normalisation matters to global edges alone."""
    keys = ["binning.method", "binning.n_bins", "binning.ties", "binning.seed"]
    if cfg(wildcards)["binning.method"] == "global":
        keys += ["normalize.target_sum", "normalize.log1p"]
    return options(cfg(wildcards), keys)


# Sweeps

SWEEP_PAGE = f"results/sweep-{SWEEP.name}.html"
SWEEP_FILES = ["config.yaml", "args.json", "metrics.csv", "evaluation/by_sample.parquet"]
SWEEP_FILES += ["evaluation/embeddings.parquet"] if SWEEP.embeddings else []
SWEEP_SETTINGS = f"--sweep-name {SWEEP.name} --sweep-criterion {SWEEP.criterion}"
SWEEP_SETTINGS += " --sweep-embeddings" if SWEEP.embeddings else ""
SWEEP_RUNS = [f"results/{dataset}/{run}" for dataset, run in RUNS]


def finished_rates():
    """Cells a second of each run that is trained; what cannot be read counts as not trained."""
    found = {}
    for pair in RUNS:
        try:
            args = json.loads(Path("results", *pair, "args.json").read_text(encoding="utf-8"))
            found[pair] = float(args["result"]["cells_per_second"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


if SWEEP.name is not None and workflow.is_main_process:
    logger.info(cost(SWEEP, finished_rates()))


def page_of_what_there_is():
    """After a failure: the page of the runs that are finished, which says what stopped the others.

    It is dated 1970, older than every run, and Snakemake's record of an earlier page goes, so that the next call makes it
    anew. Snakemake's own environment makes it: where that lacks the libraries, there is a line instead.
    """
    command = ["censusformer", "sweep", "--unfinished", "--runs", *SWEEP_RUNS, *SWEEP_SETTINGS.split()]
    environment = {**os.environ, "CENSUSFORMER_PYTHON": sys.executable}
    done = subprocess.run([*command, "--out", SWEEP_PAGE], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        logger.info(f"no page of the unfinished sweep ({last}); by hand: {' '.join(command)} --out {SWEEP_PAGE}")
    else:
        os.utime(SWEEP_PAGE, (1, 1))
        workflow.persistence.cleanup_metadata(IOFile(SWEEP_PAGE))  # else unchanged runs would leave it as it is
        logger.info(f"{SWEEP_PAGE} says which runs of the sweep failed, and shows the others")
