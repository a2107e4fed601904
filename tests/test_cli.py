import errno
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


def test_help_imports_no_step():
    code = "import sys; from censusformer import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n" \
        "sys.exit(any(m.split('.')[0] in ('numpy', 'torch', 'pandas', 'scanpy') for m in sys.modules))"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
