"""The step `demo`, as the workflow calls it."""

import subprocess
import sys

import cellxgene_census
import pytest

from censusformer.cli import main
from censusformer.steps import demo


def test_it_writes_a_census_that_the_census_package_opens(tmp_path):
    out = tmp_path / "census" / "demo"
    assert main(["demo", "--out", str(out), "--log", str(tmp_path / "demo.log")]) == 0
    assert "559 real cells" in (tmp_path / "demo.log").read_text()
    assert [path.name for path in out.parent.iterdir()] == ["demo"]
    with cellxgene_census.open_soma(uri=str(out)) as census:
        obs = cellxgene_census.get_obs(
            census, "homo_sapiens", value_filter="is_primary_data == True and tissue_general == 'blood'"
        )
    assert len(obs) > 6000
    assert obs["raw_sum"].gt(0).all()


def test_starting_it_loads_neither_scanpy_nor_torch():
    """They take seconds to load, and the cells are read without them."""
    code = (
        "import sys; from censusformer.census import demo, layout, real_cells; "
        "sys.exit(bool({'scanpy', 'celltypist', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_package_without_its_data_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("censusformer.census.real_cells.SAMPLE", "data/samples/absent.csv")
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    message = capsys.readouterr().err
    assert "absent.csv is missing" in message
    assert "celltypist" in message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes are limited by resource, which Windows lacks")
def test_a_disk_that_takes_no_more_is_told_in_one_line(tmp_path):
    """A limit on the size of files stands in for a full disk: TileDB fails in the same place."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
        f"from censusformer.cli import main; sys.exit(main(['demo', '--out', {str(tmp_path / 'demo')!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "File too large" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.iterdir())


def test_it_has_a_help_text_for_each_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--help"])
    assert stop.value.code == 0
    assert "--seed" in capsys.readouterr().out
    assert demo.__doc__.startswith("`demo`")
