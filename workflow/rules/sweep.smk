# The page about all runs of a sweep. Needs what pretrain and evaluate write; makes results/sweep-{name}.html.


rule sweep:
    input:
        [f"{folder}/{name}" for folder in SWEEP_RUNS for name in SWEEP_FILES],
    output:
        SWEEP_PAGE,
    log:
        f"results/logs/sweep/{SWEEP.name}.log",
    benchmark:
        f"results/benchmarks/sweep/{SWEEP.name}.tsv"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(20),
    params:
        settings=SWEEP_SETTINGS,
        runs=SWEEP_RUNS,
        code=code("sweep"),
    message:
        f"Writing the page about the sweep {SWEEP.name}"
    shell:
        "censusformer sweep --log {log} --runs {params.runs} {params.settings} --out {output}"
