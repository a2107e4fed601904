"""A SLURM cluster in a box: munge, slurmctld and two slurmd nodes on this one machine, bound to loopback.

    python -m tests.slurm.box install    Debian's packages, as root
    python -m tests.slurm.box start
    python -m tests.slurm.box stop

Each node has, in its books at least, two CPUs, 64 GB of memory and two GPUs of type `fake`. Jobs read the configuration
in /etc/slurm, so that is where it is written; a machine with a cluster of its own is left alone.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "munged")
NODES = ("node1", "node2")
ETC, STATE = Path("/etc/slurm"), Path("/run/slurm-box")
MARK = "# Written by censusformer's tests: a cluster in a box.\n"

#: SlurmdTimeout and KillWait are short, so that a test need not wait for minutes.
CONF = """\
ClusterName=box
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17900
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={state}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=5
SlurmctldPidFile={state}/slurmctld.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdPidFile={state}/%n.pid
SlurmdLogFile={state}/%n.log
SlurmdSpoolDir={state}/%n
StateSaveLocation={state}/slurmctld
SlurmdParameters=config_overrides
SlurmdTimeout=10
KillWait=5
MinJobAge=3600
GresTypes=gpu
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[17901-17902] CPUs=2 RealMemory=64000 Gres=gpu:fake:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP
"""
GRES = "AutoDetect=off\nNodeName=node[1-2] Name=gpu Type=fake File={state}/gpu[0-1]\n"


def why_not() -> str | None:
    """What stands in the way of a cluster here; None where nothing does."""
    conf = ETC / "slurm.conf"
    if os.name != "posix" or os.geteuid() != 0:
        return "the daemons of SLURM need root"
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        return f"{', '.join(missing)} missing: as root, python -m tests.slurm.box install"
    if conf.exists() and not conf.read_text().startswith(MARK):
        return f"{conf} belongs to a cluster of this machine"
    return None


def install() -> None:
    """Install Debian's packages where that is possible, and say so where it is not."""
    if all(shutil.which(name) for name in PROGRAMS):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print("SLURM is not installed here, and only root on Debian or Ubuntu could: its tests will be skipped")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-q", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *words], env=environment, stdout=subprocess.DEVNULL, check=True)


def start() -> None:
    """Start all daemons on empty books, and wait until both nodes are idle."""
    if reason := why_not():
        raise SystemExit(reason)
    stop()
    _write_configuration()
    munge = ["--socket", STATE / "munge.socket", "--key-file", STATE / "munge.key", "--pid-file", STATE / "munge.pid"]
    munge += ["--log-file", STATE / "munge.log", "--seed-file", STATE / "munge.seed"]
    _run("munged", "--force", *munge)
    _run("slurmctld", "-c")
    for node in NODES:
        start_node(node)
    wait_for(lambda: states() == ["idle", "idle"], "both nodes are idle")


def start_node(name: str) -> None:
    """Start a node's daemon."""
    _run("slurmd", "-N", name)


def kill_node(name: str, others: list) -> None:
    """Let a node's daemon and other processes on it vanish, as if its power failed."""
    os.kill(_pid(name), signal.SIGKILL)
    for process in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def hurry() -> None:
    """Let jobs that were queued again start at once; SLURM would wait for two minutes."""
    waiting = subprocess.run(["squeue", "-h", "-t", "PD", "-o", "%i %r"], capture_output=True, text=True, check=False)
    for line in waiting.stdout.splitlines():
        job, reason = line.split(maxsplit=1)
        if reason == "BeginTime":
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False, capture_output=True)


def states() -> list[str]:
    """The states of the nodes, such as idle or down."""
    shown = subprocess.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%t"], capture_output=True, text=True, check=False)
    return shown.stdout.split()


def wait_for(condition, what: str, seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{seconds:.0f} s passed before {what}")
        time.sleep(0.2)


def stop() -> None:
    """Stop what runs here, jobs included, and remove the configuration; what is not ours stays."""
    if _pid("slurmctld"):
        subprocess.run(["scancel", "--signal=KILL", "--user=root"], capture_output=True, check=False)
        subprocess.run(["scancel", "--user=root"], capture_output=True, check=False)
        time.sleep(1)
    names = [*NODES, "slurmctld", "munge"]
    for name in names:
        if pid := _pid(name):
            os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not any(_pid(name) for name in names), "the daemons stopped", 30)
    for file in (ETC / "slurm.conf", ETC / "gres.conf"):
        if file.exists() and file.read_text().startswith(MARK):
            file.unlink()
    shutil.rmtree(STATE, ignore_errors=True)


def _pid(name: str) -> int | None:
    """The process of a daemon, if it runs."""
    try:
        pid = int((STATE / f"{name}.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _write_configuration() -> None:
    STATE.mkdir(mode=0o755)
    (STATE / "slurmctld").mkdir()
    for name in NODES:
        (STATE / name).mkdir()
    for number in range(2):
        (STATE / f"gpu{number}").touch()
    (STATE / "munge.key").write_bytes(os.urandom(1024))
    (STATE / "munge.key").chmod(0o400)
    values = {"host": socket.gethostname().split(".")[0], "state": STATE, "nodes": "node[1-2]"}
    ETC.mkdir(exist_ok=True)
    (ETC / "slurm.conf").write_text(MARK + CONF.format(**values))
    (ETC / "gres.conf").write_text(MARK + GRES.format(**values))


def _run(program: str, *args: object) -> None:
    subprocess.run([shutil.which(program) or program, *map(str, args)], check=True)


if __name__ == "__main__":
    {"install": install, "start": start, "stop": stop}[sys.argv[1]]()
