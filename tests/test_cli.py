import errno
import resource
import subprocess
import sys
import types

import pytest

from censusformer import cli
from censusformer.errors import InputError


@pytest.fixture
def step(monkeypatch):
    """Let the subcommand `count` do what the test says."""

    def replace(run):
        module = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
        monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)

    return replace


def fails_with(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("cells.h5ad: column donor_id is missing"), 2, "count: cells.h5ad: column donor_id is missing"),
        (OSError(errno.ENOSPC, "no", "results/x.parquet"), 1, "results/x.parquet: No space left on device"),
        (ValueError("shapes"), 1, "this is a bug in censusformer"),
    ],
)
def test_errors_become_messages(step, tmp_path, capsys, error, status, said):
    step(fails_with(error))
    assert cli.main(["count", "--log", str(tmp_path / "logs/a.log")]) == status
    log = (tmp_path / "logs/a.log").read_text()
    assert said in log and said in capsys.readouterr().err
    assert ("Traceback" in log) == isinstance(error, ValueError)


def test_success_is_zero(step):
    step(lambda args: None)
    assert cli.main(["count"]) == 0


def test_every_step_is_a_module_and_every_module_a_step(root):
    modules = {path.stem for path in (root / "src/censusformer/steps").glob("[!_]*.py")}
    assert modules == {*cli.STEPS, *cli.TOOLS}


@pytest.mark.parametrize("name", cli.STEPS)
def test_help_of_each_step(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "--out" in shown and "--log" in shown


def test_help_takes_less_than_half_a_second():
    """Of CPU, which other processes on the machine do not change."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "censusformer", "--help"], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize("name", ["count", "genes", "hvg", "binning", "split", "tokenize", "vocab", "manifest"])
def test_steps_of_preparation_import_nothing_heavy(name):
    heavy = ["scanpy", "anndata", "tiledbsoma", "torch", "matplotlib", "sklearn", "pandas", "skmisc"]
    if name in ("genes", "split", "vocab", "manifest"):
        heavy += ["numba", "scipy", "h5py"]
    code = f"import sys, censusformer.steps.{name}\nprint(*sorted({set(heavy)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_help_imports_no_step():
    code = "import sys; from censusformer import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n" \
        "sys.exit(any(m.split('.')[0] in ('numpy', 'torch', 'pandas', 'scanpy') for m in sys.modules))"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize("name", ["SLURM_PROCID", "LOCAL_RANK"])
def test_of_several_processes_the_first_writes_the_log(step, tmp_path, monkeypatch, name):
    step(lambda args: cli.logger.info("here"))
    for number in ("1", "0"):
        monkeypatch.setenv(name, number)
        assert cli.main(["count", "--log", str(tmp_path / f"{number}.log")]) == 0
    assert not (tmp_path / "1.log").exists()
    assert "here" in (tmp_path / "0.log").read_text()
