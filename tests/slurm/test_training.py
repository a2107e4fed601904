"""Training on a cluster: several nodes, jobs that are cancelled, and jobs whose time is over."""

import csv
import json
import subprocess

import pytest

from tests.faults.harness import Workplace, fingerprints, wait_for

from .conftest import SMALL, record, running

MODEL = "results/demo/{}/best_model.pt"


def curve(workplace, run):
    with (workplace.results / f"demo/{run}/metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize(("nodes", "devices"), [(2, 1), (1, 2)])
def test_two_processes_take_the_steps_of_one(copied, local, nodes, devices):
    """On two nodes, and on two devices of one; the type of GPU is named as a site would."""
    copied.settings = {**SMALL, "run": "two", "execution": {**SMALL["execution"], "nodes": nodes, "devices": devices}}
    typed = ["--set-resources", "pretrain:gres=gpu:fake:$GPUS"]
    assert copied.start(MODEL.format("two"), *typed).wait() == 0, copied.output()[-6000:]
    (job,) = copied.submitted()
    found = record(job)
    assert (found["NumNodes"], found["NumTasks"], found["NumCPUs"]) == (str(nodes), "2", "2")
    assert found["TresPerNode"] == f"gres:gpu:fake:{devices}"
    one, two = curve(local, "base"), curve(copied, "two")
    assert len(one) == len(two) > 10
    for a, b in zip(one, two, strict=True):
        assert float(a.pop("mse")) == pytest.approx(float(b.pop("mse")), rel=1e-5)
        assert a == b
    used = json.loads((copied.results / "demo/two/args.json").read_text())["used"]
    assert used["devices"] == 2


def of_run(results, run):
    """The files of a run alone."""
    return {name: digest for name, digest in fingerprints(results).items() if name.startswith(f"demo/{run}/")}


def trained(local, tmp_path, settings):
    """The files of an undisturbed training."""
    local.copy(tmp_path / "undisturbed")
    workplace = Workplace(tmp_path / "undisturbed", settings=settings)
    code, shown = workplace.run(MODEL.format(settings["run"]))
    assert code == 0, shown[-6000:]
    return of_run(workplace.results, settings["run"])


def log(workplace, run):
    path = workplace.results / f"demo/{run}/logs/pretrain.log"
    return path.read_text() if path.exists() else ""


def test_a_cancelled_training_goes_on(copied, local, tmp_path):
    settings = {**SMALL, "run": "cancelled", "train": {"epochs": 20}}
    undisturbed = trained(local, tmp_path, settings)
    copied.settings = settings
    process = copied.start(MODEL.format("cancelled"), "--set-resources", "pretrain:gres=None")
    wait_for(lambda: list((copied.results / "demo/cancelled/work").glob("*/last.ckpt")), 120)
    (job,) = running(copied)
    subprocess.run(["scancel", job], check=True)
    assert process.wait() == 0, copied.output()[-6000:]
    first, second = (record(job) for job in copied.submitted())
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert "TresPerNode" not in first
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("8000M", "16000M")
    assert "going on from step" in log(copied, "cancelled")
    assert of_run(copied.results, "cancelled") == undisturbed


def test_a_training_longer_than_its_time_goes_on(cluster, copied, local, tmp_path):
    """Its time is cut to two minutes: the signal then comes as soon as slurmctld looks, every half minute.

    Later starts have more time, or a busy machine would need many.
    """
    shape = {"n_layers": 4, "d_model": 64, "n_heads": 4, "d_ff": 128, "dropout": 0}  # a minute of training
    seldom = {**SMALL["execution"], "checkpoint_minutes": 1}
    settings = {**SMALL, "run": "long", "train": {"epochs": 160}, "model": shape, "execution": seldom}
    undisturbed = trained(local, tmp_path, settings)
    copied.settings = settings
    process = copied.start(MODEL.format("long"))
    wait_for(lambda: list((copied.results / "demo/long/work").glob("*/last.ckpt")), 120)
    (job,) = running(copied)
    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=2"], check=True)
    cluster.wait_for(lambda: int(record(job)["Restarts"]) == 1, "the job was queued again", 120)
    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=60"], check=True)
    cluster.wait_for(lambda: cluster.hurry() or process.poll() is not None, "the run ended", 900)
    assert process.wait() == 0, copied.output()[-6000:]
    assert copied.submitted() == [job] and record(job)["Restarts"] == "1"
    assert "going on from step" in log(copied, "long")
    assert of_run(copied.results, "long") == undisturbed
