import json

import pyarrow as pa
import pyarrow.parquet as pq
from real_chunk import real_counts, write_chunk

from censusformer.cli import main
from censusformer.tokens.vocabulary import Vocabulary, sha256_of


def test_genes_in_order_and_how_many_samples_selected_each(tmp_path):
    one, two = write_chunk(tmp_path / "a"), write_chunk(tmp_path / "b", samples=("f:x", "f:y"))
    out = tmp_path / "vocab.json"
    options = ["--genes", str(one.genes_file), "--hvg", str(one.hvg), str(two.hvg), "--out", str(out)]
    assert main(["vocab", *options]) == 0
    vocab, content = Vocabulary.read(out), json.loads(out.read_text())
    assert set(content) == {"genes", "names", "n_samples", "cls", "pad", "sha256", "checksum"}
    assert content["genes"] == one.genes.tolist()
    assert content["names"] == real_counts()[1][:600].tolist()
    assert content["n_samples"] == [2] * 50 + [4] * 50 + [2] * 50 + [0] * 450
    assert (content["cls"], content["pad"]) == (600, 601)
    assert vocab.sha256 == content["sha256"] == sha256_of(one.genes)


def test_a_gene_that_was_not_kept_is_refused(tmp_path, capsys):
    chunk = write_chunk(tmp_path)
    pq.write_table(pa.table({"sample": ["d:a"], "feature_id": ["ENSG99999999999"]}), chunk.hvg)
    code = main(["vocab", "--genes", str(chunk.genes_file), "--hvg", str(chunk.hvg), "--out", str(tmp_path / "v.json")])
    assert code == 2
    assert str(chunk.hvg) in capsys.readouterr().err
