"""A real conda with a local channel under the names of the public ones, made of PyPI's wheels."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conda_envs import CONDA_NAMES, read_envs

MAKE_CONDA = "shared/conda/make_conda.sh"  # beside the repository


def make_conda(root: Path, folder: Path) -> Path:
    """Set conda up in a folder; its channel holds what the environment files list, and what that depends on.

    Returns the folder of the `conda` command. What the files do not list has the version of constraints.txt, as in the
    environment that `make` installs.
    """
    script = root.parent / MAKE_CONDA
    if not script.is_file():
        raise FileNotFoundError(f"{script}: conda-test makes its conda with it")
    listed = {f"{name}=={version}" for env in read_envs(root).values() for name, version in env.conda.items()}
    environment = {
        **os.environ,
        "PYTHON": f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}",
        "ALIASES": " ".join(f"{pypi}={conda}" for pypi, conda in CONDA_NAMES.items()),
    }
    command = ["bash", script, folder, "-c", root / "constraints.txt", *sorted(listed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    shutil.rmtree(folder / "wheels")
    return folder / "condabin"
