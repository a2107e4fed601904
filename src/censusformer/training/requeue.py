"""When the time of a SLURM job is nearly over: have SLURM run the job once more, which goes on from its checkpoint."""

import logging
import os
import shutil
import subprocess
import time

logger = logging.getLogger("censusformer")

_END = 300.0  # seconds after which SLURM has surely ended the job that it was asked to run again


def job() -> str | None:
    """The id of the SLURM job that this process is part of."""
    return os.environ.get("SLURM_JOB_ID") if shutil.which("scontrol") else None


def requeue(number: str) -> bool:
    """Ask SLURM to end the job and to queue it again; false where it refuses."""
    done = subprocess.run(["scontrol", "requeue", number], capture_output=True, text=True, check=False)
    if done.returncode:
        logger.info("SLURM does not queue job %s again (%s)", number, done.stderr.strip())
    else:
        logger.info("SLURM queues job %s again, and it goes on from here", number)
    return done.returncode == 0


def wait_for_the_end() -> None:
    """Do nothing until SLURM ends this process: an exit status would look like a failure."""
    time.sleep(_END)
