import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.errors import InputError
from censusformer.hashing import word
from censusformer.tokens.vocabulary import Vocabulary, sha256_of

GENES = ("ENSG00000000003", "ENSG00000000005", "ENSG00000000419")


def vocabulary():
    return Vocabulary(GENES, ("TSPAN6", "TNMD", "DPM1"), (3, 0, 2))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), unique=True, max_size=20), st.data())
def test_round_trip(tmp_path_factory, genes, data):
    counts = data.draw(st.lists(st.integers(0, 99), min_size=len(genes), max_size=len(genes)))
    written = Vocabulary(tuple(genes), tuple(reversed(genes)), tuple(counts))
    path = tmp_path_factory.mktemp("vocab") / "vocab.json"
    written.write(path)
    read = Vocabulary.read(path)
    assert read == written
    assert read.sha256 == sha256_of(genes)
    assert path.read_text(encoding="utf-8") == read.to_json()


def test_ids_and_words():
    vocab = vocabulary()
    assert (vocab.n_genes, vocab.cls, vocab.pad, vocab.size) == (3, 3, 4, 5)
    assert vocab.gene_words.tolist() == [word(gene) for gene in GENES]


def test_digest_hangs_on_ids_and_their_order_alone():
    vocab = vocabulary()
    assert Vocabulary(GENES, ("a", "b", "c"), (0, 0, 0)).sha256 == vocab.sha256
    assert Vocabulary(GENES[::-1], vocab.names, vocab.n_samples).sha256 != vocab.sha256


def test_a_gene_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        Vocabulary(("a", "a"), ("x", "y"), (0, 0))


def test_the_genes_that_most_samples_selected():
    vocab = Vocabulary(tuple("abcdef"), tuple("abcdef"), (2, 0, 5, 2, 0, 2))
    assert vocab.most_selected(1).tolist() == [2]
    assert vocab.most_selected(3).tolist() == [0, 2, 3]  # of three with 2, those of lower ids
    assert vocab.most_selected(9).tolist() == [0, 2, 3, 5]  # no sample selected the others


@pytest.mark.parametrize("damage", ["gene", "truncated", "no_key", "number"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "vocab.json"
    content = vocabulary().to_json()
    if damage == "gene":
        content = content.replace(GENES[1], "ENSG00000000006")
    elif damage == "truncated":
        content = content[:-20]
    elif damage == "number":
        content = "5"
    else:
        content = json.dumps({k: v for k, v in json.loads(content).items() if k != "names"})
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"vocab\.json.*delete it and run snakemake again"):
        Vocabulary.read(path)
