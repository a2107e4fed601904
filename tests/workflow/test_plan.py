"""What Snakemake says before anything runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
SHOWN = re.findall(r"`snakemake ([^`]*--cores [^`]*)`", README.read_text())


@pytest.mark.parametrize("shown", [words for words in SHOWN if "--touch" not in words and "--sdm" not in words])
def test_commands_of_the_readme_plan(project, shown):
    (project.folder / "data").mkdir()
    (project.folder / "data/a.h5ad").touch()
    words = shlex.split(shown.replace("../shared/blood", "data"))
    command = [sys.executable, "-m", "snakemake", *words, "-n", "-q", "rules"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "select" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("preset", ["blood-300k", "blood-10k", "reference"])
def test_census_presets_plan(project, preset):
    shown = project.run("-n", preset=preset)
    assert "select" in shown and "demo" not in shown.split("reasons")[0].split("Job stats")[-1]
    assert not project.path("").exists()


def test_own_files_plan(project, root):
    (project.folder / "data").mkdir()
    (project.folder / "data/a.h5ad").touch()
    assert "ingest" in project.run("-n", preset="blood-h5ad")


def test_own_files_that_are_not_there(project):
    shown = project.run("-n", preset="blood-h5ad", fails=True)
    assert "census.h5ad: no file matches data/*.h5ad" in shown


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"hvg": {"n_top": "many"}}, "hvg.n_top: 'many' is not allowed; allowed: integer, at least 2"),
        ({"hvg": {"n_topp": 3}}, "hvg.n_topp is no key of the config; did you mean hvg.n_top?"),
        ({"train": {"lr": -1}}, "train.lr: -1 is not allowed; allowed: number, over 0"),
    ],
)
def test_bad_settings_end_in_a_few_lines(project, overrides, said):
    shown = project.run("-n", fails=True, **overrides)
    assert said in shown and "Traceback" not in shown
    assert len(shown.splitlines()) <= 6


def test_settings_on_the_command_line(project):
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--config", 'hvg={"n_top": "x"}', "run=2"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "hvg.n_top: 'x' is not allowed" in done.stdout + done.stderr
    command[-2] = 'hvg={"n_top": 600}'
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "results/demo/2/best_model.pt" in done.stdout


def test_lint_is_clean(project):
    command = [sys.executable, "-m", "snakemake", "--lint"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_complete(root):
    """Each rule logs, is measured, has an environment, memory, a limit and a message; and has the name of its step."""
    from censusformer.cli import STEPS

    rules = {}
    for file in sorted((root / "workflow/rules").glob("*.smk")):
        name = None
        for line in file.read_text().splitlines():
            if line.startswith(("rule ", "checkpoint ")):
                name = line.split()[1].rstrip(":")
                rules[name] = set()
            elif name and line.startswith("    ") and not line.startswith("     "):
                rules[name].add(line.strip().split(":")[0])
    assert rules.keys() == {*STEPS, "effective_config"}
    for name, parts in rules.items():
        wanted = {"output", "log", "benchmark", "params", "conda", "message", "shell"}
        assert wanted <= parts, f"{name} lacks {wanted - parts}"
        assert "resources" in parts or name == "effective_config"
