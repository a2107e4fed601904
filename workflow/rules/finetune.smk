# Tasks on the trained encoder, with cells of one's own. Needs best_model.pt; makes results/{dataset}/{run}/finetune/.


rule finetune:
    input:
        model="results/{dataset}/{run}/best_model.pt",
        cells=own_cells,
    output:
        multiext("results/{dataset}/{run}/finetune/annotation/", "finetuned.pt", "scores.json", "predictions.parquet"),
    log:
        "results/{dataset}/{run}/logs/finetune.log",
    benchmark:
        "results/{dataset}/{run}/benchmarks/finetune.tsv"
    conda:
        "../../envs/finetune.yaml"
    threads: 8
    resources:
        mem_mb=grows(8000),
        runtime=grows(240),
        gres="gpu:1",
    params:
        settings=settings(
            *("finetune.layer", "finetune.min_coverage", "finetune.label", "finetune.person", "finetune.mode"),
            *("finetune.folds", "finetune.seeds", "finetune.unknown"),
        ),
        code=code("finetune"),
        task=code_digest("censusformer.training.tasks.annotation"),  # imported by its name
    message:
        "Fine-tuning {wildcards.dataset}/{wildcards.run} on labelled cells"
    shell:
        "censusformer finetune --log {log} --model {input.model} --h5ad {input.cells} --threads {threads}"
        " --out results/{wildcards.dataset}/{wildcards.run}/finetune/annotation {params.settings}"


rule integrate:
    input:
        model="results/{dataset}/{run}/best_model.pt",
        cells=own_cells,
    output:
        cells="results/{dataset}/{run}/finetune/integration/integrated.h5ad",
        scores="results/{dataset}/{run}/finetune/integration/scores.json",
    log:
        "results/{dataset}/{run}/logs/integrate.log",
    benchmark:
        "results/{dataset}/{run}/benchmarks/integrate.tsv"
    conda:
        "../../envs/finetune.yaml"
    threads: 8
    resources:
        mem_mb=grows(16000),
        runtime=grows(120),
        gres="gpu:1",
    params:
        settings=settings("finetune.layer", "finetune.min_coverage", "finetune.batch", "finetune.label"),
        code=code("integrate"),
    message:
        "Taking the batch out of the embeddings of {wildcards.dataset}/{wildcards.run}"
    shell:
        "censusformer integrate --log {log} --model {input.model} --h5ad {input.cells} --threads {threads}"
        " --out {output.cells} --scores {output.scores} {params.settings}"
