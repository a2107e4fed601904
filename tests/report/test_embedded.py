"""What the page says of embeddings."""

import re

import pytest
from embedded_inputs import MISSING, frequency, genes, markers, scores, told, umap, write_embedded
from report_inputs import write_inputs

from censusformer.cli import main
from censusformer.report import embedded, embedded_figures
from censusformer.report.embedded import Embedded


def found(**changes):
    parts = {"embeddings": scores(), "umap": umap(), "genes": genes(), "markers": markers(), "frequency": frequency(),
             "told": told()}  # fmt: skip
    return Embedded(**{**parts, **changes})


def texts(table):
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_baselines_that_win_are_named_first():
    first = embedded.verdict(found())[0]
    assert (
        "Model, <cls> 0.80; above it Gene set without values 0.85; below it HVG + PCA 0.75, PCA + Harmony 0.72" in first
    )
    assert "90 cells of 3 types, 6 persons" in first


def test_sure_differences_are_said_with_their_interval():
    table = scores()
    lead = ("pca", "held_out", "knn_macro_f1_lead", 0.05, 0.01, 0.09, 90)
    unsure = ("harmony", "held_out", "knn_macro_f1_lead", 0.05, -0.01, 0.09, 90)
    table.loc[len(table)], table.loc[len(table) + 1] = lead, unsure
    first, *others = embedded.verdict(found(embeddings=table))
    assert first.endswith("Surely different from <cls>, persons drawn in pairs: HVG + PCA -0.05 (-0.09 to -0.01).")
    assert not any("Surely" in sentence for sentence in others)


def test_what_was_not_measured_says_why():
    sentences = embedded.verdict(found(told=told(held_out=MISSING)))
    assert sentences[0] == f"Persons never seen: not measured, since {MISSING}."
    assert len(sentences) == 3
    assert "was not asked, since fewer" in embedded.batch(found(told=told(tells_dataset="fewer than two")))


def test_tables_have_intervals_and_mark_the_best():
    table = embedded.classified(found(), "held_out")
    by_name = {row.cells[0].text: row.cells for row in table.rows}
    assert by_name["HVG + PCA"][1].text == "0.75 (0.65 to 0.85)"
    assert by_name["Gene set without values"][2].mark == "best"
    assert by_name["Model, <cls>"][2].mark == ""
    assert [cell.text for cell in by_name["Most frequent label"]][1] == "0.30 (0.20 to 0.40)"
    assert "0.80" in texts(embedded.integrated(found()))[0]
    assert texts(embedded.told_batch(found()))[0] == ["Model, <cls>", "80 %", "80 %"]


def test_markers_and_neighbours():
    words = embedded.marker_words(found())
    assert "Model: 1 of 2; Untrained: 0 of 1" in words
    assert texts(embedded.neighbours(found())) == [
        ["CD79A", "900", "MS4A1 0.90, CD79B 0.80"],
        ["LYZ", "20", "S100A8 0.70"],
    ]
    assert "none are compared" in embedded.marker_words(found(markers=markers().iloc[:0]))


@pytest.mark.parametrize(
    ("at_least", "below", "name"), [(0, 1.0, "none"), (1, 10.0, "1 to 9"), (100000, float("nan"), "100,000 or more")]
)
def test_classes_of_frequency(at_least, below, name):
    assert embedded.classes(at_least, below) == name


def test_where_the_model_loses_to_the_mean_is_said():
    table = frequency()
    assert "below each gene's mean for genes that show in none and 100,000 or more." in embedded.frequency_words(
        found()
    )
    table.loc[(table["predictor"] == "gep") & (table["at_least"] == 0), "mse"] = 300
    words = embedded.frequency_words(found(frequency=table))
    assert words.endswith("show in 100,000 or more; not below it for genes that show in none.")


def test_pictures_show_the_most_frequent_labels_and_stay_the_same():
    by_donor = embedded_figures.plane(umap(), "pca", "donor")
    assert by_donor == embedded_figures.plane(umap(), "pca", "donor")
    assert by_donor.count("data:image/png") == 1
    assert "2 others" in by_donor and "not labelled" in embedded_figures.plane(umap(), "pca", "cell_type")


def page(folder, **changes):
    options = write_inputs(folder)
    write_embedded(folder / "evaluation", **changes)
    assert main(options) == 0
    return (folder / "report.html").read_text()


def test_the_page_has_it_all_and_loads_nothing(tmp_path):
    text = page(tmp_path, label="T<script>alert(1)</script>")
    section = text[text.index('<section id="embeddings">') : text.index('<section id="training">')]
    assert section.count("<svg") == 2 + 6 + 1
    assert "<script" not in text and "T&lt;script&gt;" in text
    assert not re.search(r'(?:src|xlink:href|href)="(?!#|data:|https://doi\.org)', section)
    for title in ("Persons never seen", "Each person in turn", "Types kept together", "Cells in the plane"):
        assert title in section


def test_the_page_without_labels_and_pictures(tmp_path):
    none = dict.fromkeys(("held_out", "in_turn", "integration", "tells_sample", "tells_dataset"), "there is one alone")
    text = page(tmp_path, pictures=False, **none)
    section = text[text.index('<section id="embeddings">') : text.index('<section id="training">')]
    assert section.count("not measured, since there is one alone") == 2
    assert "Clusters and mixing were not measured: there is one alone." in section
    assert "Cells in the plane" not in section


@pytest.mark.parametrize("told", [None, '{"measured": false}'])
def test_without_the_step_the_page_says_so(tmp_path, told):
    options = write_inputs(tmp_path)
    if told:
        (tmp_path / "evaluation/embeddings.json").write_text(told)
    assert main(options) == 0
    assert "the step <code>embeddings</code> did not run" in (tmp_path / "report.html").read_text()
