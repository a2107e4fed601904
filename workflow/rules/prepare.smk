# From raw counts to token shards. Needs results/census/{chunk}.*; makes results/{dataset}/ up to shards.json and vocab.json.


checkpoint genes:
    input:
        per_chunk("results/census/{chunk}.counts.parquet"),
    output:
        genes="results/{dataset}/genes.parquet",
        list=GENES,
    log:
        "results/{dataset}/logs/genes.log",
    benchmark:
        "results/{dataset}/benchmarks/genes.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        settings=settings("filter.min_counts_per_gene"),
        code=code("genes"),
    message:
        "Keeping the genes of {wildcards.dataset} that are counted often enough"
    shell:
        "censusformer genes --log {log} --counts {input} --out {output.genes} --out-list {output.list} {params.settings}"


rule hvg:
    input:
        chunk="results/census/{chunk}.h5ad",
        genes=GENES,
    output:
        hvg="results/{dataset}/hvg/{chunk}.parquet",
        cells="results/{dataset}/cells/{chunk}.parquet",
    log:
        "results/{dataset}/logs/hvg/{chunk}.log",
    benchmark:
        "results/{dataset}/benchmarks/hvg/{chunk}.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        settings=hvg_settings,
        code=code("hvg"),
    message:
        "Ranking the variable genes of each sample in {wildcards.chunk}"
    shell:
        "censusformer hvg --log {log} --chunk {input.chunk} --genes {input.genes}"
        " --out-hvg {output.hvg} --out-cells {output.cells} {params.settings}"


rule shared_hvg:
    input:
        hvg=per_chunk("results/{dataset}/hvg/{chunk}.parquet"),
        genes=GENES,
    output:
        "results/{dataset}/hvg_shared.parquet",
    log:
        "results/{dataset}/logs/shared_hvg.log",
    benchmark:
        "results/{dataset}/benchmarks/shared_hvg.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        settings=settings("hvg.n_top", "hvg.flavor"),
        code=code("shared_hvg"),
    message:
        "One list of variable genes for all samples of {wildcards.dataset}"
    shell:
        "censusformer shared_hvg --log {log} --hvg {input.hvg} --out {output} {params.settings}"


rule edges:
    input:
        chunk=per_chunk("results/census/{chunk}.h5ad"),
        hvg=per_chunk("results/{dataset}/hvg/{chunk}.parquet"),
        cells=per_chunk("results/{dataset}/cells/{chunk}.parquet"),
        shared=shared_list,
        genes=GENES,
    output:
        "results/{dataset}/edges.parquet",
    log:
        "results/{dataset}/logs/edges.log",
    benchmark:
        "results/{dataset}/benchmarks/edges.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        settings=settings("binning.n_bins", "normalize.target_sum", "normalize.log1p"),
        given=where_given(shared="--shared-hvg"),
        code=code("edges"),
    message:
        "Bin edges for the entire matrix of {wildcards.dataset}"
    shell:
        "censusformer edges --log {log} --chunk {input.chunk} --genes {input.genes} --hvg {input.hvg}"
        " --cells {input.cells} {params.given} --out {output} {params.settings}"


rule binning:
    input:
        chunk="results/census/{chunk}.h5ad",
        hvg="results/{dataset}/hvg/{chunk}.parquet",
        cells="results/{dataset}/cells/{chunk}.parquet",
        shared=shared_list,
        edges=shared_edges,
        genes=GENES,
    output:
        "results/{dataset}/binned/{chunk}.h5ad",
    log:
        "results/{dataset}/logs/binning/{chunk}.log",
    benchmark:
        "results/{dataset}/benchmarks/binning/{chunk}.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        settings=binning_settings,
        given=where_given(shared="--shared-hvg", edges="--edges"),
        code=code("binning"),
    message:
        "Binning the expression of {wildcards.chunk}"
    shell:
        "censusformer binning --log {log} --chunk {input.chunk} --genes {input.genes} --hvg {input.hvg}"
        " --cells {input.cells} {params.given} --out {output} {params.settings}"


# By chunk, from hash(seed, cell): more cells leave the split of the others as it was.
rule split:
    input:
        list="results/{dataset}/chunks/{chunk}.parquet",
        cells="results/{dataset}/cells/{chunk}.parquet",
        genes=GENES,
    output:
        "results/{dataset}/split/{chunk}.parquet",
    log:
        "results/{dataset}/logs/split/{chunk}.log",
    benchmark:
        "results/{dataset}/benchmarks/split/{chunk}.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        settings=settings("split.valid_fraction", "split.by", "split.seed"),
        code=code("split"),
    message:
        "Splitting the cells of {wildcards.chunk}"
    shell:
        "censusformer split --log {log} --list {input.list} --cells {input.cells} --out {output} {params.settings}"


rule tokenize:
    input:
        binned="results/{dataset}/binned/{chunk}.h5ad",
        split="results/{dataset}/split/{chunk}.parquet",
        genes=GENES,
    output:
        train="results/{dataset}/shards/train/{chunk}.parquet",
        valid="results/{dataset}/shards/valid/{chunk}.parquet",
        test="results/{dataset}/shards/test/{chunk}.parquet",
    log:
        "results/{dataset}/logs/tokenize/{chunk}.log",
    benchmark:
        "results/{dataset}/benchmarks/tokenize/{chunk}.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        settings=settings("tokenize.min_genes", "tokenize.seed", "binning.n_bins", "hvg.n_top"),
        code=code("tokenize"),
    message:
        "Writing the shards of {wildcards.chunk}"
    shell:
        "censusformer tokenize --log {log} --binned {input.binned} --split {input.split} --genes {input.genes}"
        " --out-train {output.train} --out-valid {output.valid} --out-test {output.test} {params.settings}"


# Its own step: a job of one chunk cannot write a file of all chunks.
checkpoint vocab:
    input:
        hvg=per_chunk("results/{dataset}/hvg/{chunk}.parquet"),
        genes=GENES,
    output:
        VOCAB,
    log:
        "results/{dataset}/logs/vocab.log",
    benchmark:
        "results/{dataset}/benchmarks/vocab.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        code=code("vocab"),
    message:
        "Writing the vocabulary of {wildcards.dataset}"
    shell:
        "censusformer vocab --log {log} --genes {input.genes} --hvg {input.hvg} --out {output}"


checkpoint manifest:
    input:
        train=per_chunk("results/{dataset}/shards/train/{chunk}.parquet"),
        valid=per_chunk("results/{dataset}/shards/valid/{chunk}.parquet"),
        test=per_chunk("results/{dataset}/shards/test/{chunk}.parquet"),
        genes=GENES,
    output:
        SHARDS,
    log:
        "results/{dataset}/logs/manifest.log",
    benchmark:
        "results/{dataset}/benchmarks/manifest.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        settings=settings("binning.method", "binning.ties", "binning.seed"),
        code=code("manifest"),
    message:
        "Listing the shards of {wildcards.dataset}"
    shell:
        "censusformer manifest --log {log} --train {input.train} --valid {input.valid} --test {input.test}"
        " --out {output} {params.settings}"
