# From a census to raw counts. Needs a Census, a SOMA or h5ad files; makes results/census/{chunk}.h5ad and .counts.parquet.


rule demo:
    output:
        directory(DEMO),
    log:
        "results/census/logs/demo.log",
    benchmark:
        "results/census/benchmarks/demo.tsv"
    conda:
        "../../envs/census.yaml"
    resources:
        mem_mb=grows(3000),
        runtime=grows(15),
    params:
        code=code("demo"),
    message:
        "Building the demo census from real cells"
    shell:
        "censusformer demo --log {log} --out {output}"


rule ingest:
    input:
        lambda wildcards: own_files(own(wildcards)),
    output:
        directory("results/census/h5ad/{files,[0-9a-f]{12}}"),
    log:
        "results/census/logs/ingest/{files}.log",
    benchmark:
        "results/census/benchmarks/ingest/{files}.tsv"
    conda:
        "../../envs/census.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(60),
    params:
        settings=lambda wildcards: options(own(wildcards), ["census.organism"]),
        code=code("ingest"),
    message:
        "Turning h5ad files into a census"
    shell:
        "censusformer ingest --log {log} --h5ad {input:q} {params.settings} --out {output}"


# The chunks folder holds one list of cells for each chunk. A chunk's name is {census}-{digest of what it holds}.
checkpoint select:
    input:
        lambda wildcards: census_folder(cfg(wildcards)) or [],
    output:
        chunks=directory("results/{dataset}/chunks"),
        samples="results/{dataset}/samples.parquet",
        provenance="results/{dataset}/provenance.json",
    log:
        "results/{dataset}/logs/select.log",
    benchmark:
        "results/{dataset}/benchmarks/select.tsv"
    conda:
        "../../envs/census.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(60),
    params:
        census=census_options,
        # fmt: off
        settings=settings(
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
        ),
        # fmt: on
        code=code("select"),
    message:
        "Choosing the samples of {wildcards.dataset}"
    shell:
        "censusformer select --log {log} {params.census} --resolved results/census/stable.json"
        " --out {output.chunks} --samples {output.samples} --provenance {output.provenance} {params.settings}"


# No list among the inputs: the name says what the chunk holds, so whichever data set lists it will do, and neither
# that list's date nor its place can cause a download.
rule download:
    input:
        chunk_census,
    output:
        "results/census/{chunk}.h5ad",
    log:
        "results/census/logs/download/{chunk}.log",
    benchmark:
        "results/census/benchmarks/download/{chunk}.tsv"
    conda:
        "../../envs/census.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(120),
        downloads=1,
    params:
        code=code("download"),
    message:
        "Fetching the counts of {wildcards.chunk}"
    shell:
        "censusformer download --log {log} --list results/*/chunks/{wildcards.chunk}.parquet --out {output}"


rule count:
    input:
        "results/census/{chunk}.h5ad",
    output:
        "results/census/{chunk}.counts.parquet",
    log:
        "results/census/logs/count/{chunk}.log",
    benchmark:
        "results/census/benchmarks/count/{chunk}.tsv"
    conda:
        "../../envs/prep.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        code=code("count"),
    message:
        "Counting genes in {wildcards.chunk}"
    shell:
        "censusformer count --log {log} --chunk {input} --out {output}"
