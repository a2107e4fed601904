"""A cluster in a box, and runs of a small demo on it and beside it."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.faults.harness import SETTINGS, Workplace, fingerprints

from . import box

BIN = Path(__file__).parent / "bin"
#: Both nodes are this one host. Dropout differs between one process and several.
ENVIRONMENT = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
SMALL = {**SETTINGS, "model": {"dropout": 0}}
#: The shipped profile on two CPUs, without its patience.
QUICK = ["--jobs", "2", "--max-threads", "1", "--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "1",
         "--seconds-between-status-checks", "1"]  # fmt: skip


class OnCluster(Workplace):
    """A copy of the project in which Snakemake runs with the shipped profile."""

    process = None

    def start(self, *args):
        (self.folder / "overrides.yaml").write_text(yaml.safe_dump(self.settings))
        command = [sys.executable, "-m", "snakemake", *args, "--profile", "slurm", *QUICK]
        command += ["--configfile", "overrides.yaml"]
        environment = {**os.environ, **ENVIRONMENT, "SQUEUE": shutil.which("squeue")}
        environment["PATH"] = os.pathsep.join([str(BIN), os.environ["PATH"]])
        with (self.folder / "output.txt").open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        return self.process

    def submitted(self):
        """The ids of the jobs of the last call, in order."""
        return re.findall(r"submitted with SLURM jobid (\d+)", self.output())


def record(job):
    """What SLURM has on record of a job: {'JobState': 'RUNNING', ...}."""
    shown = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, check=True).stdout
    return dict(word.split("=", 1) for word in shown.split() if "=" in word)


def running(workplace):
    """{job: its record} of the jobs of the last call that run."""
    records = {job: record(job) for job in workplace.submitted()}
    return {job: found for job, found in records.items() if found["JobState"] == "RUNNING"}


@pytest.fixture(scope="session")
def cluster():
    """The cluster, running."""
    if reason := box.why_not():
        pytest.skip(reason)
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is missing: pip install -c constraints.txt -e '.[slurm]'")
    box.start()
    yield box
    box.stop()


@pytest.fixture(scope="session")
def local(tmp_path_factory, root):
    """A run by `--cores`, finished."""
    workplace = Workplace(tmp_path_factory.mktemp("local") / "demo", root, SMALL)
    code, shown = workplace.run()
    assert code == 0, shown[-6000:]
    return workplace


@pytest.fixture(scope="session")
def finished(cluster, local, tmp_path_factory):
    """The same by `--profile slurm`; `records` holds what SLURM has on record of its jobs, by rule."""
    workplace = OnCluster(tmp_path_factory.mktemp("cluster") / "demo", local.folder, SMALL)
    code = workplace.start().wait()
    assert code == 0, workplace.output()[-6000:]
    records = [record(job) for job in workplace.submitted()]
    workplace.records = {}
    for found in records:
        rule = re.match(r"(?:rule|group)_(\w+?)(?:_wildcards|$)", found["Comment"]).group(1)
        workplace.records.setdefault(rule, []).append(found)
    return workplace


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run, to be changed; for Snakemake in it `--profile slurm` as well."""
    finished.copy(tmp_path / "copy")
    workplace = OnCluster(tmp_path / "copy", settings=SMALL)
    yield workplace
    if workplace.process is not None and workplace.process.poll() is None:  # the test failed: leave nothing behind
        workplace.process.send_signal(signal.SIGINT)  # at which Snakemake cancels its jobs
        workplace.process.wait(60)


@pytest.fixture(scope="session")
def expected(local):
    """{file: digest} of the local run."""
    return fingerprints(local.results)
