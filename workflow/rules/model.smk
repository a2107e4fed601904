# From shards to a model and the page about it. Needs shards.json and vocab.json; makes results/{dataset}/{run}/.


# Nobody reads it: it may be written anew without anything following.
rule effective_config:
    output:
        "results/{dataset}/{run}/config.yaml",
    log:
        "results/{dataset}/{run}/logs/effective_config.log",
    benchmark:
        "results/{dataset}/{run}/benchmarks/effective_config.tsv"
    priority: 1
    conda:
        "../../envs/report.yaml"
    params:
        text=effective,
    message:
        "Writing the settings of {wildcards.dataset}/{wildcards.run}"
    shell:
        "printf %s {params.text:q} > {output} 2> {log}"


rule pretrain:
    input:
        shards=SHARDS,
        vocab=VOCAB,
        files=shards("train", "valid"),
        genes=GENES,
        start=start,
    output:
        model="results/{dataset}/{run}/best_model.pt",
        last="results/{dataset}/{run}/last.ckpt",
        metrics="results/{dataset}/{run}/metrics.csv",
        args="results/{dataset}/{run}/args.json",
        vocab="results/{dataset}/{run}/vocab.json",
    log:
        "results/{dataset}/{run}/logs/pretrain.log",
    benchmark:
        "results/{dataset}/{run}/benchmarks/pretrain.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 8
    resources:
        **TRAINING,
        mem_mb=grows(8000 * DEVICES),
        runtime=grows(1440),
    params:
        settings=section("mask", "model", "train"),
        start=start_digest,
        code=code("pretrain"),
    message:
        "Pretraining {wildcards.dataset}/{wildcards.run}"
    shell:
        "exec ${{SRUN:+$SRUN {threads}}} censusformer pretrain --log {log} --shards {input.shards} --vocab {input.vocab}"
        " --out results/{wildcards.dataset}/{wildcards.run} --work results/{wildcards.dataset}/{wildcards.run}/work"
        " {params.settings} $EXECUTION"


rule evaluate:
    input:
        model="results/{dataset}/{run}/best_model.pt",
        shards=SHARDS,
        vocab=VOCAB,
        samples="results/{dataset}/samples.parquet",
        cells=per_chunk("results/{dataset}/cells/{chunk}.parquet"),
        files=shards("train", "valid", "test"),
        genes=GENES,
    output:
        table="results/{dataset}/{run}/evaluation/reconstruction.parquet",
        by_sample="results/{dataset}/{run}/evaluation/by_sample.parquet",
        leakage="results/{dataset}/{run}/evaluation/leakage.json",
        summary="results/{dataset}/{run}/evaluation/summary.json",
    log:
        "results/{dataset}/{run}/logs/evaluate.log",
    benchmark:
        "results/{dataset}/{run}/benchmarks/evaluate.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 8
    resources:
        mem_mb=grows(8000),
        runtime=grows(120),
        gres="gpu:1",
    params:
        settings=section("evaluate"),
        code=code("evaluate"),
    message:
        "Measuring {wildcards.dataset}/{wildcards.run} beside its baselines"
    shell:
        "censusformer evaluate --log {log} --model {input.model} --shards {input.shards} --vocab {input.vocab}"
        " --samples {input.samples} --cells {input.cells}"
        " --out results/{wildcards.dataset}/{wildcards.run}/evaluation"
        " {params.settings} $EXECUTION"


rule embeddings:
    input:
        model="results/{dataset}/{run}/best_model.pt",
        shards=SHARDS,
        vocab=VOCAB,
        samples="results/{dataset}/samples.parquet",
        chunk=per_chunk("results/census/{chunk}.h5ad"),
        files=shards("train", "valid", "test"),
        genes=GENES,
    output:
        expand("results/{{dataset}}/{{run}}/evaluation/{name}.parquet", name=EMBEDDED),
        "results/{dataset}/{run}/evaluation/embeddings.json",
    log:
        "results/{dataset}/{run}/logs/embeddings.log",
    benchmark:
        "results/{dataset}/{run}/benchmarks/embeddings.tsv"
    conda:
        "../../envs/embeddings.yaml"
    threads: 8
    resources:
        mem_mb=grows(8000),
        runtime=grows(240),
        gres="gpu:1",
    params:
        settings=section("embeddings"),
        code=code("embeddings"),
    message:
        "Measuring the embeddings of {wildcards.dataset}/{wildcards.run} beside other representations"
    shell:
        "censusformer embeddings --log {log} --model {input.model} --shards {input.shards} --vocab {input.vocab}"
        " --samples {input.samples} --chunk {input.chunk}"
        " --out results/{wildcards.dataset}/{wildcards.run}/evaluation {params.settings} $EXECUTION"


rule report:
    input:
        totals="results/{dataset}/genes.parquet",
        samples="results/{dataset}/samples.parquet",
        provenance="results/{dataset}/provenance.json",
        hvg=per_chunk("results/{dataset}/hvg/{chunk}.parquet"),
        cells=per_chunk("results/{dataset}/cells/{chunk}.parquet"),
        split=per_chunk("results/{dataset}/split/{chunk}.parquet"),
        shards=SHARDS,
        vocab=VOCAB,
        metrics="results/{dataset}/{run}/metrics.csv",
        args="results/{dataset}/{run}/args.json",
        evaluation=[
            f"results/{{dataset}}/{{run}}/evaluation/{name}"
            for name in ("reconstruction.parquet", "summary.json", "leakage.json")
        ],
        embeddings=expand("results/{{dataset}}/{{run}}/evaluation/{name}.parquet", name=EMBEDDED),
        tasks=task_scores,
        files=shards("train", "valid", "test"),
        genes=GENES,
    output:
        page="results/{dataset}/{run}/report.html",
        card="results/{dataset}/{run}/MODEL_CARD.md",
    log:
        "results/{dataset}/{run}/logs/report.log",
    benchmark:
        "results/{dataset}/{run}/benchmarks/report.tsv"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(20),
    params:
        settings=effective,
        code=code("report"),
        tasks=where_given(tasks="--tasks"),
    message:
        "Writing the page about {wildcards.dataset}/{wildcards.run}"
    shell:
        "censusformer report --log {log} --samples {input.samples} --provenance {input.provenance}"
        " --genes {input.totals} --hvg {input.hvg} --cells {input.cells} --split {input.split}"
        " --shards {input.shards} --vocab {input.vocab} --metrics {input.metrics} --model-args {input.args}"
        " --evaluation results/{wildcards.dataset}/{wildcards.run}/evaluation --settings {params.settings:q} {params.tasks}"
        " --benchmarks results/census/benchmarks results/{wildcards.dataset}/benchmarks"
        " results/{wildcards.dataset}/{wildcards.run}/benchmarks --out {output.page} --out-card {output.card}"
