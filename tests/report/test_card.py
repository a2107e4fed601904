import pytest
from embedded_inputs import write_embedded
from report_inputs import BASELINES, MODEL, write_inputs

from censusformer.cli import main


def card(folder, **inputs):
    assert main(write_inputs(folder, **inputs)) == 0
    return (folder / "MODEL_CARD.md").read_text(encoding="utf-8")


@pytest.fixture(name="text", scope="module")
def _text(tmp_path_factory):
    return card(tmp_path_factory.mktemp("card"))


def test_the_card_says_what_the_page_says(text, tmp_path):
    assert "**On held-out samples, the model is ahead of every baseline with GEP; ridge regression is ahead" in text
    assert "6 epochs on 398 cells of 5 samples from 3 data sets" in text
    held_out = text[text.index("### Held-out") : text.index("### Validation")]
    for name, error in (
        ("Model GEP", MODEL["gep"]),
        ("Model GEPC", MODEL["gepc"]),
        ("Constant", BASELINES["constant"]),
    ):
        assert f"| {name} | {error:.1f} | - |" in held_out
    assert "5 persons in training and 1 in the test, none on both sides" in text
    assert '"d_model": 32' in text


def test_the_card_gives_citations_and_the_licence(text):
    assert "| Blood of set-1 | - | Doe et al. (2020) | <https://doi.org/10.1000/xyz> |" in text
    assert "The licence of the data is not recorded" in text
    assert "license: other" in text


def test_names_stay_text(tmp_path):
    assert "an \\<b\\>invented\\</b\\> \\| donor" in card(tmp_path, note="an <b>invented</b> | donor")


def test_no_test_no_claim(tmp_path):
    text = card(tmp_path, test=False)
    assert "On validation cells (no sample was held out)" in text
    assert "### Held-out" not in text


def test_the_same_inputs_give_the_same_card(text, tmp_path):
    other = card(tmp_path / "run")
    assert other.splitlines()[7:] == text.splitlines()[7:]  # the title is the settings'
    assert other == text


def test_embeddings_stand_in_the_card_where_they_were_measured(text, tmp_path):
    assert "### Embeddings" not in text
    argv = write_inputs(tmp_path)
    write_embedded(tmp_path / "evaluation")
    assert main(argv) == 0
    written = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    part = written[written.index("### Embeddings") : written.index("## What was compared")]
    assert "macro-F1" in part and part.count("\n- ") >= 2
