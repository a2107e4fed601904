"""What the environment files hold, and which rule uses which."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

CONDA_NAMES = {"torch": "pytorch", "tiledbsoma": "tiledbsoma-py", "matplotlib": "matplotlib-base"}  # by PyPI's names
_PYPI_NAMES = {conda: pypi for pypi, conda in CONDA_NAMES.items()}


@dataclass(frozen=True)
class Env:
    """Versions of the packages of an environment file by PyPI's normalised names; `pip` are those of its pip part."""

    python: str
    conda: dict[str, str]
    pip: dict[str, str]

    @property
    def packages(self):
        return self.conda | self.pip


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_env(file: Path) -> Env:
    listed = yaml.safe_load(file.read_text())["dependencies"]
    conda = dict(entry.split("=") for entry in listed if isinstance(entry, str) and entry != "pip")
    pip = dict(spec.split("==") for entry in listed if isinstance(entry, dict) for spec in entry["pip"])
    return Env(conda.pop("python"), {_PYPI_NAMES.get(name, name): version for name, version in conda.items()}, pip)


def read_envs(root: Path) -> dict[str, Env]:
    """All environment files by name."""
    return {file.stem: read_env(file) for file in sorted((root / "envs").glob("*.yaml"))}


def envs_of_rules(root: Path) -> dict[str, str]:
    """Name of the environment of each rule; a checkpoint is a rule, too."""
    found, rule = {}, None
    for file in sorted((root / "workflow/rules").glob("*.smk")):
        for line in file.read_text().splitlines():
            if named := re.match(r"(?:rule|checkpoint) (\w+):", line):
                rule = named[1]
            elif env := re.search(r'"[./]*/envs/([\w-]+)\.yaml"', line):
                found[rule] = env[1]
    return found
