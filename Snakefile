# From the CELLxGENE Census to a pretrained single-cell transformer: `snakemake --cores all` builds the model of
# config.yaml and the page about it. Steps, files and settings: README.md and config.yaml.
from snakemake.utils import min_version

min_version("9.8")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/slurm.smk"
include: "workflow/rules/census.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/model.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/sweep.smk"


localrules:
    all,
    effective_config,


rule all:
    default_target: True
    input:
        [f"results/{dataset}/{run}/{name}" for dataset, run in RUNS for name in RUN_FILES],
        [
            f"results/{dataset}/{run}/{TASK_FILES[task]}"
            for dataset, run in RUNS
            for task in RUNS[dataset, run]["finetune.tasks"]
        ],
        [f"results/{dataset}/chunks" for dataset in DATA],  # else a folder deleted by hand would hide changed settings
        [SWEEP_PAGE] if SWEEP.name else [],


onstart:
    if Path("results").is_dir() and not os.access("results", os.W_OK):
        raise WorkflowError("results/ cannot be written: is its disk read-only, or is the folder another user's?")


onerror:
    if SWEEP.name:
        page_of_what_there_is()
