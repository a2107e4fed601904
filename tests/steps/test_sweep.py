"""The page about a sweep: from the folders of its runs to words, tables and figures."""

import itertools
import os
import re
from html import unescape

import pytest
from sweep_runs import write_run

from censusformer.cli import main
from censusformer.report.comparison import ONE_SEED


def build(folder, runs):
    return [write_run(folder / "results/demo" / name, changes, errors, **more) for name, changes, errors, more in runs]


def dropout_runs():
    """Dropout 0.2 is better by 6, 0.3 worse by 12, 0.15 a little better on one seed and worse on two."""
    found = []
    for seed, wobble in enumerate((-0.5, 0.0, 0.5)):
        for dropout, gain in ((0.1, 0), (0.2, -6), (0.3, 12), (0.15, 0.1 - wobble)):
            errors = (110 + gain + wobble, 115 + gain + wobble)
            found.append((f"d{dropout}s{seed}", {"model.dropout": dropout, "train.seed": seed}, errors, {}))
    return found


def page_of(folder, runs, *more, code=0):
    out = folder / "results/sweep-x.html"
    words = ["sweep", "--runs", *runs, "--sweep-name", "x", "--out", out, *more]
    assert main([str(word) for word in words]) == code
    return unescape(out.read_text()).replace("\u00a0", " ") if code == 0 else ""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    runs = build(folder, dropout_runs())
    return page_of(folder, [path.relative_to(folder) for path in runs], *()) if os.chdir(folder) is None else ""


def headline(page):
    return re.search(r'<h1 id="headline">(.*?)</h1>', page)[1]


def rows_of(page):
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    cells = re.compile(r"<td[^>]*>(.*?)</td>", re.DOTALL)
    return [[re.sub("<[^>]+>", "", cell) for cell in cells.findall(row)] for row in body.split("<tr")[1:]]


def test_the_first_sentence_says_what_is_best_and_whether_that_is_noise(page):
    assert headline(page).startswith("Best is model.dropout 0.2: share of the reducible error removed 38.3 %")
    assert "+4.99 points" in headline(page) and headline(page).endswith("more than noise.")


def test_the_table_has_a_row_for_each_setting_the_best_first(page):
    rows = rows_of(page)
    assert [row[1] for row in rows] == ["0.2", "0.15", "0.1", "0.3"] or [row[1] for row in rows] == [
        "0.2", "0.1", "0.15", "0.3"]  # fmt: skip
    by_dropout = {row[1]: " ".join(row) for row in rows}
    assert "better" in by_dropout["0.2"] and "worse" in by_dropout["0.3"] and "noise" in by_dropout["0.15"]
    assert rows[0][2] == "0 1 2"
    assert 'href="demo/d0.2s0/report.html"' in page


def test_the_page_says_how_to_build_the_best_again(page):
    assert page.count("snakemake --cores all --configfile results/demo/d0.2s") == 3


def test_the_page_loads_nothing(page):
    assert not re.search(r'(src|href)="(?!demo/|data:|#)', page)
    assert "@import" not in page and "url(http" not in page


def test_equal_runs_give_equal_pages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = build(tmp_path, dropout_runs()[:4])
    assert page_of(tmp_path, runs) == page_of(tmp_path, runs)


def test_one_seed_says_nothing_of_other_seeds(tmp_path, page):
    alone = page_of(tmp_path, build(tmp_path, [run for run in dropout_runs() if run[1]["train.seed"] == 0]))
    assert ONE_SEED in alone and "spread of seeds" not in alone
    assert headline(alone).endswith("more than the noise of samples, by one seed.")
    assert ONE_SEED not in page and "spread of seeds" in page


def test_no_difference_is_called_noise(tmp_path):
    runs = [(f"d{d}s{s}", {"model.dropout": d, "train.seed": s}, (110 + (s - 1) + d, 115 + s), {})
            for d in (0.1, 0.2) for s in (0, 1, 2)]  # fmt: skip
    assert "may be as good" in headline(page_of(tmp_path, build(tmp_path, runs)))


def scaling_runs():
    found = []
    for seed in (0, 1, 2):
        for cells in (1000, 2000, 4000, 8000):
            gep, gepc = (30 + a * cells**-0.25 * (1 + 0.004 * (seed - 1)) for a in (500, 600))
            found.append((f"c{cells}s{seed}", {"census.max_cells": cells, "train.seed": seed}, (gep, gepc),
                          {"cells": cells, "f1": 1 - 2 * cells**-0.3}))  # fmt: skip
    return found


def test_scaling_curve(tmp_path):
    page = page_of(tmp_path, build(tmp_path, scaling_runs()), "--sweep-criterion", "test.gep.mse", "--sweep-embeddings")
    found = re.search(
        r"GEP: each doubling of the training cells removes ([\d.]+) % .*?interval ([\d.-]+) to ([\d.]+)", page
    )
    value, low, high = map(float, found.groups())
    assert low < 100 * (1 - 2**-0.25) < high and value == pytest.approx(100 * (1 - 2**-0.25), abs=1)
    assert "Cell types by training cells" in page and rows_of(page)[0][-6] == "0.865"
    assert "Cell types: each doubling of the training cells removes 18.8 % of the distance from perfect" in page
    assert "twice the largest size, 16,000" in page and "the best was chosen on the samples" in page.lower()


@pytest.mark.parametrize(
    ("key", "values", "size", "axis"),
    [
        ("model.d_model", (16, 32, 64), "parameters", "parameters"),
        ("train.max_steps", (100, 300, None), "steps", "steps"),
    ],
)
def test_scaling_by_size_of_the_model_and_by_steps(tmp_path, key, values, size, axis):
    """A line for each value of what else varies."""
    runs = []
    for (i, value), dropout in itertools.product(enumerate(values), (0, 0.1)):
        errors = (90 + 20 * 2**-i + 10 * dropout, 95 + 20 * 2**-i)
        runs.append((f"{i}d{dropout}", {key: value, "model.dropout": dropout}, errors, {size: 1000 * 2**i}))
    page = page_of(tmp_path, build(tmp_path, runs))
    assert f"<h3>By {axis}, model.dropout 0</h3>" in page and f"<h3>By {axis}, model.dropout 0.1</h3>" in page
    assert page.count(f"GEP: each doubling of the {axis} removes") == 2


def test_other_ties_are_compared_by_the_reducible_error(tmp_path):
    """Errors and floor are 20 lower with middle ties: mse says better, the share of the reducible error does not."""
    runs = []
    for seed, (ties, less) in itertools.product((0, 1, 2), (("random", 0), ("middle", 20))):
        changes, errors = {"binning.ties": ties, "train.seed": seed}, (110 - less + seed / 9, 115 - less)
        runs.append((f"{ties}{seed}", changes, errors, {"floor": 30 - less}))
    folders = build(tmp_path, runs)
    assert "(data, genes or bins differ), so that mse does not compare" in page_of(
        tmp_path, folders, "--sweep-criterion", "test.gep.mse"
    )
    page = page_of(tmp_path, folders, "--sweep-criterion", "test.gep.reducible_removed")
    assert "does not compare" not in page
    assert "validation loss (% of its start)" in page


def test_failed_runs_are_named_with_what_stopped_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = build(tmp_path, dropout_runs()[:3])
    broken = tmp_path / "results/demo/broken"
    (broken / "logs").mkdir(parents=True)
    (broken / "logs/pretrain.log").write_text("12:00:00 going on\n12:00:01 pretrain: the loss is not finite\n")
    runs += [broken, tmp_path / "results/demo/never"]
    assert page_of(tmp_path, runs, code=2) == ""
    page = page_of(tmp_path, runs, "--unfinished")
    assert "2 of 5 runs did not finish" in page
    assert "demo/broken</b>: pretrain failed: the loss is not finite" in page
    assert "demo/never</b>: not finished" in page
    assert len(rows_of(page)) == 3
    (broken / "config.yaml").write_text("{}")
    os.utime(broken / "config.yaml", (2e9, 2e9))
    assert "demo/broken</b>: not finished" in page_of(tmp_path, runs, "--unfinished")  # that log was of other settings


def test_results_older_than_their_settings_are_none(tmp_path):
    runs = build(tmp_path, dropout_runs()[:3])
    os.utime(runs[0] / "config.yaml", (2e9, 2e9))
    assert "1 of 3 runs did not finish" in page_of(tmp_path, runs, "--unfinished")
    assert "did not finish" not in page_of(tmp_path, runs)  # snakemake has made sure that they are new


def test_a_page_without_any_finished_run(tmp_path):
    page = page_of(tmp_path, [tmp_path / "results/demo/a"], "--unfinished")
    assert "No run is finished." in page and "1 of 1 runs did not finish" in page


def test_names_are_escaped(tmp_path):
    runs = build(tmp_path, [("a", {"train.epochs": "<b>&"}, (1, 2), {}), ("b", {}, (1.5, 2), {})])
    out = tmp_path / "results/sweep-x.html"
    page_of(tmp_path, runs)
    assert "<b>&" not in out.read_text().replace("<b>&lt;", "")
    assert "&lt;b&gt;&amp;" in out.read_text()
