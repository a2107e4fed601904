import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_inputs import BASELINES, FLOOR, MODEL, write_inputs

from censusformer.cli import main
from censusformer.report.findings import NAMES

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """What a browser would see: texts by id, rows of tables by section, every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.by_id, self.rows, self.attributes, self.tags = "", {}, {}, [], []
        self._open, self._section, self._cells = [], "first", None
        self.feed(text.replace("\u00a0", " "))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._section = given["id"] if tag == "section" else self._section
        if tag == "tr":
            self._cells = []
        elif tag in ("td", "th"):
            self._cells.append("")
        if tag not in VOID:
            self._open.append((tag, given.get("id")))
            self.by_id.setdefault(given.get("id"), "")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if tag == "tr":
            self.rows.setdefault(self._section, []).append(self._cells)
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        self.text += data
        for _, name in self._open:
            if name:
                self.by_id[name] += data
        if self._open and any(tag in ("td", "th") for tag, _ in self._open):
            self._cells[-1] += data

    def row(self, section: str, *first: str) -> list[str]:
        """The only row of a section that begins with these texts."""
        found = [row for row in self.rows[section] if tuple(row[: len(first)]) == first]
        assert len(found) == 1, (section, first, found)
        return found[0][len(first) :]


def build(folder: Path, **inputs) -> Page:
    assert main(write_inputs(folder, **inputs)) == 0
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    return build(tmp_path_factory.mktemp("report"))


def failure(argv: list[str], capsys) -> str:
    assert main(argv) == 2
    return capsys.readouterr().err


def test_the_first_screen_says_what_was_trained_on_what(page):
    said = page.by_id["trained"]
    assert "2 layers of width 32 and 231,000 parameters" in said
    assert "6 epochs on 398 cells of 5 samples from 3 data sets of the demo census, with a vocabulary" in said
    assert "of 300 genes" in said
    assert "tested on 103 cells of 1 sample from 1 data set" in said


def test_a_baseline_that_wins_is_named_and_by_how_much(page):
    assert page.by_id["headline"] == (
        "On held-out samples, the model is ahead of every baseline with GEP; "
        "ridge regression is ahead of the model with GEPC."
    )
    assert "GEPC: the error is 145.1, 0.1 % above ridge regression (144.9), the best baseline" in page.by_id["heads"]
    assert page.row("first", "against ridge regression (144.9)") == ["2.0 % lower", "0.1 % higher"]


def test_a_census_with_a_note_has_it_on_the_first_screen(page, tmp_path):
    assert "note" not in page.by_id
    noted = build(tmp_path, note="Donors are <invented>.")
    assert noted.by_id["note"] == "Donors are <invented>."


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"gep": 142.0, "gepc": 144.0}, "the model is ahead of every baseline with both heads."),
        ({"gep": 150.0, "gepc": 152.0}, "ridge regression is ahead of the model with both heads."),
        (
            {"gep": 158.0, "gepc": 158.0},
            "ridge regression and the gene mean within its data set are ahead of the model with both",
        ),
    ],
)
def test_the_headline_follows_the_numbers(tmp_path, model, said):
    assert said in build(tmp_path, model=model).by_id["headline"]


def test_the_first_table_gives_the_distance_from_every_baseline(page):
    for baseline, error in BASELINES.items():
        for head, said in zip(MODEL, page.row("first", f"against {NAMES[baseline]} ({error})"), strict=True):
            change = MODEL[head] / error - 1
            assert said == f"{abs(change):.1%}".replace("%", " %") + (" lower" if change < 0 else " higher")
    removed = [(160.7 - error) / (160.7 - FLOOR) for error in MODEL.values()]
    expected = [f"{100 * share:.1f} %" for share in removed]
    assert page.row("first", "Reducible error of the gene mean removed") == expected


def test_the_table_of_errors_has_every_predictor_head_and_ratio(page):
    rows = page.rows["reconstruction"]
    for name, error in [("Ridge regression", 144.9), ("Model GEP", 142.0), ("Model GEPC", 145.1)]:
        on_test, on_valid = (row[1:] for row in rows if row[0] == name and len(row) == 5)
        assert on_test == [f"{error + shift:.1f}" for shift in (-9, 0, 3, 0)]
        assert on_valid == [f"{0.9 * error + shift:.1f}" for shift in (-9, 0, 3, 0)]
    assert ["Floor of random ties", "40.0", "40.0", "40.0", "40.0"] in rows


def test_all_measures_stand_by_predictor_and_ratio(page):
    rows = [row for row in page.rows["reconstruction"] if row[:2] == ["Model GEP", "50 %"]]
    assert rows == [["Model GEP", "50 %", "142.0", "0.300"], ["Model GEP", "50 %", "127.8", "0.300"]]


def test_copies_of_training_cells_are_on_the_first_screen(page, tmp_path):
    row = page.row("leakage", "held-out test with training")
    assert row == ["103 with 398", "0", "2", "3", "12"]
    assert "2 held-out test cells (1.9 %) have exactly the raw counts of a training cell" in page.by_id["leakage"]
    assert "copies of cells that were trained on" in page.by_id["copies"]
    argv = write_inputs(tmp_path)
    (tmp_path / "evaluation/leakage.json").unlink()
    assert main(argv) == 0
    page = Page((tmp_path / "report.html").read_text())
    assert "copies" not in page.by_id
    assert "Nothing was compared" in page.by_id["leakage"]


def test_the_published_run_stands_beside_this_one(page):
    assert page.row("reference", "Training GEP, mean of an epoch's windows") == [
        "152.1", "130.1", "\u221214.4 %", "132.8", "109.3", "\u221217.7 %"
    ]  # fmt: skip
    assert page.row("reference", "Validation GEP, once an epoch")[3:] == ["128.6", "120.1", "\u22126.6 %"]


def test_unseen_data_sets_have_a_table_of_their_own(tmp_path):
    assert (
        "of data sets not seen in training: 6,000 hidden values" in build(tmp_path, unseen=True).by_id["reconstruction"]
    )


def test_without_held_out_samples_the_page_says_so(tmp_path):
    page = build(tmp_path, test=False)
    assert page.by_id["headline"].startswith("On validation cells (no sample was held out), ")
    assert "It says nothing about new donors" in page.by_id["no-test"]
    assert "tested on" not in page.by_id["trained"]
    assert page.row("filters", "of these held-out test")[0] == "0"


def test_samples_and_filters_are_counted(page):
    assert page.row("samples", "training", "chosen")[:2] == ["5", "470"]
    assert page.row("samples", "left out", "fewer than 50 cells")[:2] == ["2", "30"]
    assert page.row("samples", "set-0:donor-0") == ["training", "80", "72", *page.row("samples", "set-0:donor-0")[3:]]
    cells = [page.row("filters", name)[0] for name in ("Met by the query", "In chosen samples", "With enough genes")]
    assert cells == ["1,115", "585", "524"]
    assert page.row("filters", "With enough tokens")[0] == "523"
    assert page.row("filters", "In the vocabulary")[0] == "300"
    assert page.row("filters", "Highly variable in a sample or more")[-1] == "hvg.n_top: 60"


def test_genes_before_the_filter_are_shown_where_they_are_recorded(tmp_path):
    argv = write_inputs(tmp_path)
    genes = pd.read_parquet(tmp_path / "genes.parquet")
    pq.write_table(
        pa.Table.from_pandas(genes).replace_schema_metadata({"n_measured": "1234"}), tmp_path / "genes.parquet"
    )
    assert main(argv) == 0
    page = Page((tmp_path / "report.html").read_text())
    assert page.row("filters", "Measured")[0] == "1,234"
    assert page.row("filters", "In the vocabulary")[:3:2] == ["300", "24.3 %"]


def test_time_and_memory_are_of_this_data_set_alone(page):
    assert page.row("resources", "pretrain") == ["1", "1 min 01 s", "", "1 min 01 s", "1 min 50 s", "830"]
    assert page.row("resources", "hvg")[0] == "1"
    assert page.row("resources", "vocab")[-1] == "-"
    assert "3 jobs took 1 min 06 s" in page.by_id["resources"]


def test_provenance_and_settings_are_shown(page):
    assert "Blood of set-1" in page.by_id["provenance"]
    assert ("a", "href", "https://doi.org/10.1000/xyz") in page.attributes
    assert "n_top: 60" in page.by_id["config"]
    assert json.loads(page.by_id["args"])["parameters"]["total"] == 231000


def test_the_loss_curves_stand_beside_the_baselines_of_the_validation_cells(page):
    assert "Ridge regression 130" in page.by_id["training"]
    assert "Floor of random ties 36" in page.by_id["training"]
    assert page.row("training", "6") == ["130.1", "134.1", "124.1", "128.1", "128.1", "132.1", "256.3"]


def test_the_page_loads_nothing(page):
    names = {"src", "srcset", "data", "href", "xlink:href", "poster", "action"}
    loading = [value for tag, name, value in page.attributes if name in names and tag != "a"]
    assert loading
    assert all(value.startswith(("#", "data:")) for value in loading)
    assert not {"script", "iframe", "object", "embed", "base"} & set(page.tags)
    text = page.text + " ".join(value or "" for _, _, value in page.attributes)
    assert all(address.startswith("#") for address in re.findall(r"url\(['\"]?([^)]*)", text))
    assert "@import" not in text
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert all(value.startswith(("#", "https://doi.org/")) for value in links)


def test_links_and_ids_fit_together(page):
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for _, name, value in page.attributes if name == "href" and value.startswith("#")} <= {
        f"#{x}" for x in ids
    }


@pytest.mark.parametrize("donor", ["<script>x()</script>", '$\\frac{1}$ & "d\'or"', 'x" id="y', "#1567a8"])
def test_names_are_shown_as_they_are(tmp_path, donor):
    page = build(tmp_path, donor=donor)
    assert "script" not in page.tags
    assert page.row("samples", f"set-0:{donor}")[0] == "training"
    assert f"set-0:{donor}" in page.by_id["qc"]


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    argv = write_inputs(tmp_path)
    pages = []
    for _ in range(2):
        assert main(argv) == 0
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert not re.search(rb"20\d\d-\d\d-\d\d", pages[0])


def test_thousands_of_samples_make_a_page_that_is_still_small(tmp_path):
    page = build(tmp_path, n_samples=1500)
    assert (tmp_path / "report.html").stat().st_size < 3e6
    assert "and 1,488 more" in page.by_id["samples"]
    assert "and 1,100 more, in samples.parquet" in page.by_id["samples"]
    assert "300 of the 1,500 samples were compared" in page.by_id["hvg"]


def test_one_sample_alone_is_enough(tmp_path):
    assert "not defined for one sample" in build(tmp_path, n_samples=1, test=False).by_id["hvg"]


def test_a_difference_that_may_be_chance_is_called_uncertain(tmp_path, page):
    assert "too few samples for intervals" in page.by_id["duels"]
    argv = write_inputs(tmp_path)
    baselines = {"ridge": {"low": -1.5, "high": 7.25}, "gene_mean": {"low": 11, "high": 25}, "constant": {"low": None}}
    splits = {"test": {"n_cells": 5, "gep": {"baselines": baselines}, "gepc": {"baselines": {}}}}
    (tmp_path / "evaluation/summary.json").write_text(json.dumps({"splits": splits}))
    assert main(argv) == 0
    page = Page((tmp_path / "report.html").read_text())
    assert "2.0 % below ridge regression (144.9; 95 % interval of the difference -1.5 to 7.2)" in page.by_id["heads"]
    assert page.row("first", "against ridge regression (144.9)") == ["2.0 % lower, uncertain", "0.1 % higher"]
    assert page.row("first", "against the mean of each gene (160.7)")[0] == "11.6 % lower"
    assert "holds 0" in page.by_id["duels"]


@pytest.mark.parametrize(
    "file", ["samples.parquet", "hvg/chunk-0.parquet", "cells/chunk-0.parquet", "split/chunk-0.parquet"]
)
def test_a_missing_column_is_named(tmp_path, capsys, file):
    argv = write_inputs(tmp_path)
    table = pd.read_parquet(tmp_path / file)
    dropped = (
        table.columns[0] if file.startswith("cells") else {"samples": "reason", "hvg": "feature_id", "split": "split"}
    )
    dropped = "n_genes" if file.startswith("cells") else dropped[file.partition("/")[0].partition(".")[0]]
    table.drop(columns=dropped).to_parquet(tmp_path / file)
    said = failure(argv, capsys)
    assert file in said
    assert dropped in said


@pytest.mark.parametrize("file", ["provenance.json", "args.json", "shards.json", "vocab.json", "metrics.csv"])
def test_a_damaged_file_is_named(tmp_path, capsys, file):
    argv = write_inputs(tmp_path)
    (tmp_path / file).write_text("[1, 2")
    assert file in failure(argv, capsys)


def test_an_evaluation_without_the_model_is_refused(tmp_path, capsys):
    argv = write_inputs(tmp_path)
    path = tmp_path / "evaluation/reconstruction.parquet"
    table = pd.read_parquet(path)
    table[table["predictor"] != "model"].to_parquet(path)
    assert "no errors of the model" in failure(argv, capsys)


def test_tasks_have_a_section_where_they_were_run(page, tmp_path):
    assert "tasks" not in page.by_id
    argv = write_inputs(tmp_path)
    scores = {"pca": {"ilisi": 0.1, "nmi": 0.5}, "integrated": {"ilisi": 0.2, "nmi": 0.4}}
    file = tmp_path / "finetune/integration/scores.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(scores))
    assert main([*argv, "--tasks", str(file)]) == 0
    found = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "principal components lead by NMI" in found.by_id["task-batches"]
    assert found.row("tasks", "integrated") == ["0.200", "0.400"]
