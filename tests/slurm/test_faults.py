"""What happens on a cluster: memory that does not suffice, nodes that go down."""

import psutil

from tests.faults.harness import fingerprints, wait_for

from .conftest import record, running


def test_a_job_out_of_memory_is_tried_with_more(copied, expected):
    target = "results/demo/base/evaluation/summary.json"
    (copied.folder / target).unlink()
    process = copied.start(target, "--set-resources", "evaluate:mem_mb=350*attempt**2")
    assert process.wait() == 0, copied.output()[-6000:]
    first, *_, last = (record(job) for job in copied.submitted())
    assert (first["JobState"], last["JobState"]) == ("FAILED", "COMPLETED")
    assert first["MinMemoryNode"] == "350M" and last["MinMemoryNode"] in {"1400M", "3150M"}
    assert fingerprints(copied.results) == expected


def processes_of(job):
    """What runs as part of a job, and the daemons that watch over it."""
    for process in psutil.process_iter():
        try:
            name = " ".join(process.cmdline())
            if f"slurmstepd: [{job}." in name or process.environ().get("SLURM_JOB_ID") == job:
                yield process
        except psutil.Error:
            continue


def test_a_node_goes_down_while_a_chunk_runs(cluster, copied, expected):
    chunk = next((copied.results / "demo/hvg").iterdir())
    chunk.unlink()
    process = copied.start(f"results/demo/hvg/{chunk.name}")
    wait_for(lambda: running(copied), 120)
    ((job, found),) = running(copied).items()
    node = found["NodeList"]
    wait_for(lambda: any("censusformer" in " ".join(p.cmdline()) for p in processes_of(job)))
    cluster.kill_node(node, list(processes_of(job)))
    try:
        wait_for(lambda: any(state.startswith("down") for state in cluster.states()))
        cluster.wait_for(lambda: cluster.hurry() or process.poll() is not None, "the run ended", 120)
    finally:
        cluster.start_node(node)
    assert process.wait() == 0, copied.output()[-6000:]
    assert copied.submitted() == [job] and record(job)["Restarts"] == "1"
    assert record(job)["NodeList"] != node
    cluster.wait_for(lambda: cluster.states() == ["idle", "idle"], "the node is back")
    assert fingerprints(copied.results) == expected
