import json
import subprocess
import sys
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from real_chunk import real_counts, write_chunk

from censusformer.cli import main
from censusformer.evaluation import embedding_scores
from censusformer.tokens.cells import concat
from censusformer.tokens.masking import evaluation_mask
from censusformer.tokens.shards import empty_cells, read_shard, read_split, write_shard
from censusformer.tokens.vocabulary import Vocabulary

SPLITS = ("train", "valid", "test")
SAMPLES = ("d:a", "d:b", "e:c", "e:d", "d:test", "f:test")


def call(step, *options):
    assert main([step, *map(str, options)]) == 0


def manifest(folder):
    shards = [text for name in SPLITS for text in (f"--{name}", folder / f"shards/{name}/a.parquet")]
    call("manifest", *shards, "--out", folder / "shards.json")


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory):
    """Real cells from chunk to a model trained for two epochs, evaluated."""
    folder = tmp_path_factory.mktemp("evaluate")
    chunk = write_chunk(folder / "chunk", samples=SAMPLES, test=("d:test", "f:test"))
    split = folder / "split.parquet"
    call("split", "--list", chunk.list, "--cells", chunk.cells, "--out", split, "--split-valid-fraction", "0.2")
    outs = [text for name in SPLITS for text in (f"--out-{name}", folder / f"shards/{name}/a.parquet")]
    call("tokenize", "--binned", chunk.binned, "--split", split, "--genes", chunk.genes_file, *outs)
    manifest(folder)
    call("vocab", "--genes", chunk.genes_file, "--hvg", chunk.hvg, "--out", folder / "vocab.json")
    dataset = [name.split(":")[0] for name in SAMPLES]
    status = ["test" if "test" in name else "train" for name in SAMPLES]
    samples = pd.DataFrame({"sample": SAMPLES, "dataset_id": dataset, "status": status, "person": list("abcdef")})
    samples.loc[len(samples)] = ["f:x", "f", "out", "a"]
    samples.to_parquet(folder / "samples.parquet")
    files = ["--shards", folder / "shards.json", "--vocab", folder / "vocab.json"]
    call("pretrain", *files, "--out", folder / "run", "--train-epochs", 2, "--train-batch-size", 8)
    evaluate(folder, folder / "run/evaluation")
    return folder


def evaluate(folder, out, *options, code=0):
    files = ["--model", folder / "run/best_model.pt", "--shards", folder / "shards.json"]
    files += ["--vocab", folder / "vocab.json", "--samples", folder / "samples.parquet", "--out", out]
    assert main(["evaluate", *map(str, files), "--evaluate-ridge-components", "5", *map(str, options)]) == code


def read(out):
    return pd.read_parquet(out / "reconstruction.parquet"), json.loads((out / "summary.json").read_text())


def values_of(cells):
    return cells.values.astype(float)  # noqa: PD011 - an array of Cells, nothing of pandas


def mse(frame, split, seen, ratio, head, predictor):
    rows = frame[(frame["split"] == split) & (frame["head"] == head) & (frame["predictor"] == predictor)]
    rows = rows[(rows["metric"] == "mse") & (rows["mask_ratio"] == ratio)]
    rows = rows[rows["seen_dataset"].isna() if seen is None else rows["seen_dataset"] == seen]
    assert len(rows) == 1
    return rows.iloc[0]


def test_means_and_floor_are_those_of_the_shards(run):
    """The same numbers from the shards, by pandas, apart from our baselines."""
    frame, vocab = read(run / "run/evaluation")[0], Vocabulary.read(run / "vocab.json")
    train, test = (read_split(run / "shards.json", name) for name in ("train", "test"))
    bins = pd.DataFrame({"gene": train.genes, "bin": values_of(train)})
    by_gene, constant = bins.groupby("gene")["bin"].mean(), bins["bin"].mean()
    mask = evaluation_mask(test, vocab.gene_words, 0.5)
    target, gene = values_of(test)[mask], pd.Series(test.genes[mask])
    guess = gene.map(by_gene).fillna(constant).to_numpy()
    floor = np.repeat(test.tie_var, test.lengths)[mask].mean()
    expected = {"constant": np.mean((target - constant) ** 2), "gene_mean": np.mean((target - guess) ** 2)}
    for name, value in {**expected, "tie_floor": floor}.items():
        row = mse(frame, "test", None, 0.5, "gep", name)
        assert row["value"] == pytest.approx(value, rel=1e-5)
        assert row["n"] == mask.sum()


def test_splits_data_sets_and_heads(run):
    frame, found = read(run / "run/evaluation")
    assert set(frame["split"]) == {"valid", "test"}
    assert set(frame.loc[frame["split"] == "valid", "seen_dataset"]) == {True}
    test = read_split(run / "shards.json", "test")
    for seen, dataset in ((True, "d"), (False, "f")):
        cells = test.take(test.dataset_id.labels() == dataset)
        mask = evaluation_mask(cells, Vocabulary.read(run / "vocab.json").gene_words, 0.25)
        assert mse(frame, "test", seen, 0.25, "gepc", "model")["n"] == mask.sum()
    one, two = (mse(frame, "test", False, 0.25, "gep", name)["value"] for name in ("gene_dataset_mean", "gene_mean"))
    assert one == two
    assert found["headline"] == "test"
    assert found["cells"]["means"] == len(read_split(run / "shards.json", "train"))
    assert found["splits"]["test"]["n_cells"] == len(test)
    assert found["splits"]["test"]["n_samples"] == 2


def test_sums_by_sample_give_the_table_again(run):
    """What `compare` reads holds the same errors, sample by sample."""
    frame, sums = read(run / "run/evaluation")[0], pd.read_parquet(run / "run/evaluation/by_sample.parquet")
    part = sums[(sums["split"] == "test") & (sums["mask_ratio"] == 0.5)]
    assert set(part["sample"]) == {"d:test", "f:test"}
    for head, predictor in (("gep", "model"), ("gepc", "model"), (None, "ridge")):
        rows = part[(part["predictor"] == predictor) & (part["head"].isna() if head is None else part["head"] == head)]
        found = mse(frame, "test", None, 0.5, head or "gep", predictor)
        assert rows["squared"].sum() / rows["n"].sum() == pytest.approx(found["value"])
        assert rows.set_index("sample")["seen_dataset"].to_dict() == {"d:test": True, "f:test": False}


def test_the_model_is_scored_as_training_scored_it(run):
    """The best epoch's validation losses, which `pretrain` wrote, are found again."""
    frame, metrics = read(run / "run/evaluation")[0], pd.read_csv(run / "run/metrics.csv")
    epoch = read(run / "run/evaluation")[1]["model"]["epoch"]
    rows = metrics[(metrics["split"] == "valid") & (metrics["epoch"] == epoch) & metrics["mask_ratio"].notna()]
    rows = rows[rows["head"] != "sum"]
    assert len(rows) == 6
    for row in rows.itertuples():
        found = mse(frame, "valid", True, row.mask_ratio, row.head, "model")
        assert found["value"] == pytest.approx(row.mse, rel=1e-4)
        assert found["n"] == row.n_masked


def test_same_bytes_twice_and_any_order_of_ratios(run, tmp_path):
    evaluate(run, tmp_path, "--evaluate-ratios", "0.75", "0.25", "0.5")
    for name in ("reconstruction.parquet", "by_sample.parquet", "summary.json"):
        assert (tmp_path / name).read_bytes() == (run / "run/evaluation" / name).read_bytes()


def test_fewer_cells_for_ridge_change_ridge_and_not_the_means(run, tmp_path):
    evaluate(run, tmp_path, "--evaluate-max-cells", "20", "--evaluate-ratios", "0.5")
    (small, found), large = read(tmp_path), read(run / "run/evaluation")[0]
    assert found["cells"]["shift_and_ridge"] == 20
    for name, same in (("gene_mean", True), ("gene_dataset_mean", True), ("ridge", False)):
        one, two = (mse(frame, "test", True, 0.5, "gep", name)["value"] for frame in (small, large))
        assert (one == two) == same


def test_without_test_samples_validation_alone_is_evaluated(run, tmp_path):
    (tmp_path / "shards").mkdir()
    for name in SPLITS:
        cells, meta = read_shard(run / f"shards/{name}/a.parquet")
        path = tmp_path / f"shards/{name}/a.parquet"
        write_shard(path, empty_cells(np.uint16, np.uint8) if name == "test" else cells, meta)
    manifest(tmp_path)
    for name in ("vocab.json", "samples.parquet", "run"):
        (tmp_path / name).symlink_to(run / name)
    evaluate(tmp_path, tmp_path / "out")
    frame, found = read(tmp_path / "out")
    assert set(frame["split"]) == set(found["splits"]) == {"valid"}
    assert found["headline"] == "valid"


def test_another_vocabulary_is_refused(run, tmp_path, capsys):
    vocab = Vocabulary.read(run / "vocab.json")
    Vocabulary(vocab.genes[::-1], vocab.names, vocab.n_samples).write(tmp_path / "vocab.json")
    for name in ("shards", "shards.json", "samples.parquet", "run"):
        (tmp_path / name).symlink_to(run / name)
    evaluate(tmp_path, tmp_path / "out", code=2)
    message = capsys.readouterr().err
    assert "best_model.pt" in message
    assert str(tmp_path / "vocab.json") in message


def test_other_bins_are_refused(run, tmp_path, capsys):
    for name in ("vocab.json", "samples.parquet", "run"):
        (tmp_path / name).symlink_to(run / name)
    for name in SPLITS:
        cells, meta = read_shard(run / f"shards/{name}/a.parquet")
        write_shard(tmp_path / f"shards/{name}/a.parquet", cells, replace(meta, n_bins=52))
    manifest(tmp_path)
    evaluate(tmp_path, tmp_path / "out", code=2)
    assert "binning.n_bins" in capsys.readouterr().err


def link_all(run, folder, *left_out):
    for name in {"shards", "shards.json", "vocab.json", "samples.parquet", "run"} - set(left_out):
        (folder / name).symlink_to(run / name)


def test_a_person_on_both_sides_is_refused(run, tmp_path, capsys):
    link_all(run, tmp_path, "samples.parquet")
    samples = pd.read_parquet(run / "samples.parquet")
    samples.loc[samples["sample"] == "f:test", "person"] = "a; z"
    samples.to_parquet(tmp_path / "samples.parquet")
    evaluate(tmp_path, tmp_path / "out", code=2)
    assert "a: persons of both training and test" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("same_key", [True, False])
def test_cells_on_both_sides(run, tmp_path, capsys, same_key):
    """A training cell in the test set is refused; under another name it is a copy, which the counts tell."""
    link_all(run, tmp_path, "shards", "shards.json")
    parts = {name: read_shard(run / f"shards/{name}/a.parquet") for name in SPLITS}
    copy = parts["train"][0].take(np.arange(2))
    copy = replace(copy, sample=replace(copy.sample, names=("f:test",) * len(copy.sample.names)))
    if not same_key:
        copy = replace(copy, cell=copy.cell + np.uint64(1))
    parts["test"] = concat([parts["test"][0], copy]), parts["test"][1]
    for name, (cells, meta) in parts.items():
        write_shard(tmp_path / f"shards/{name}/a.parquet", cells, meta)
    manifest(tmp_path)
    keys = np.concatenate([cells.cell for cells, _ in parts.values()])
    counts = np.arange(len(keys), dtype=np.uint64)
    counts[np.isin(keys, copy.cell)] = counts[np.isin(keys, parts["train"][0].cell[:2])]
    pd.DataFrame({"cell": keys, "counts_hash": counts}).drop_duplicates("cell").to_parquet(tmp_path / "cells.parquet")
    evaluate(tmp_path, tmp_path / "out", "--cells", tmp_path / "cells.parquet", code=2 if same_key else 0)
    said = capsys.readouterr().err
    if same_key:
        assert "2 cells (such as " in said and "are in both train and test" in said
        return
    assert "2 of 28 test cells have exactly the raw counts of a cell in train" in said
    found = json.loads((tmp_path / "out/leakage.json").read_text())
    assert found["persons"] == {"recorded": True, "train": 4, "test": 2, "shared": []}
    pair = next(pair for pair in found["cells"] if (pair["one"], pair["other"]) == ("train", "test"))
    assert (pair["same_key"], pair["same_counts"]) == (0, 2)
    assert pair["same_genes"] >= 2
    assert json.loads((run / "run/evaluation/leakage.json").read_text())["cells"][0]["same_counts"] is None


def write_own(path, donors="abcd", dataset="new", **obs):
    """Real cells of one's own: raw counts, Ensembl ids, donors and two labels."""
    counts, _ = real_counts()
    n = len(counts)
    labels = np.where(np.arange(n) % 3 == 0, "B cell", "T cell")
    columns = {"donor_id": [donors[i % len(donors)] for i in range(n)], "cell_type": labels, "dataset_id": dataset}
    table = pd.DataFrame({**columns, **obs}, index=[f"cell{i}" for i in range(n)])
    genes = pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(600)])
    ad.AnnData(sp.csr_matrix(counts[:, :600].astype(np.float32)), obs=table, var=genes).write_h5ad(path)


def own(run, h5ad, out, *options, code=0):
    files = ["--model", run / "run/best_model.pt", "--h5ad", h5ad, "--out", out]
    assert main(["evaluate", *map(str, [*files, "--evaluate-ridge-components", 5, *options])]) == code


def test_ones_own_cells_beside_baselines_of_other_donors(run, tmp_path):
    write_own(tmp_path / "mine.h5ad")
    own(run, tmp_path / "mine.h5ad", tmp_path / "out")
    frame, found = read(tmp_path / "out")
    assert set(frame["split"]) == {"test"} and not frame["seen_dataset"].any()
    assert found["fitted_on"] == "2 of the file's 4 donors, 40 cells"
    assert found["splits"]["test"]["n_cells"] == 40
    sums = pd.read_parquet(tmp_path / "out/by_sample.parquet")
    assert len(set(sums["sample"])) == 2 and all(name.startswith("new:") for name in sums["sample"])
    labels = pd.read_parquet(tmp_path / "out/by_label.parquet")
    assert labels["label"].tolist() == ["T cell", "B cell"]
    for column, key in (("gep", ("gep", "model")), ("ridge", ("gepc", "ridge")), ("tie_floor", ("gep", "tie_floor"))):
        rows = frame[(frame["metric"] == "mse") & frame["mask_ratio"].isna()].set_index(["head", "predictor"])
        assert np.average(labels[column], weights=labels["n"]) == pytest.approx(rows.loc[key, "value"])


def test_ones_own_cells_beside_baselines_of_the_training_cells(run, tmp_path, capsys):
    write_own(tmp_path / "mine.h5ad")
    own(run, tmp_path / "mine.h5ad", tmp_path / "out", "--shards", run / "shards.json")
    frame, found = read(tmp_path / "out")
    assert found["splits"]["test"]["n_cells"] == 80
    train, mine = read_split(run / "shards.json", "train"), pd.read_parquet(tmp_path / "out/by_sample.parquet")
    part = mine[(mine["predictor"] == "constant") & (mine["mask_ratio"] == 0.5)]
    n, y, yy = (part[name].sum() for name in ("n", "y", "yy"))
    mean = values_of(train).mean()
    found = mse(frame, "test", False, 0.5, "gep", "constant")["value"]
    assert found == pytest.approx(yy / n - 2 * mean * y / n + mean**2)
    write_own(tmp_path / "seen.h5ad", dataset="d")  # the names and data set of training cells
    own(run, tmp_path / "seen.h5ad", tmp_path / "none", "--shards", run / "shards.json", code=2)
    assert "are in both train and test" in capsys.readouterr().err


def test_labels_are_told_from_embeddings_of_ones_own_cells(run, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_scores, "integration_scores", lambda *given: {})  # half a minute; tested apart
    write_own(tmp_path / "mine.h5ad")
    own(run, tmp_path / "mine.h5ad", tmp_path / "out", "--embeddings", "--evaluate-ratios", 0.5)
    scores = pd.read_parquet(tmp_path / "out/embeddings.parquet")
    part = scores[(scores["task"] == "in_turn") & (scores["metric"] == "knn_accuracy")].set_index("representation")
    assert {"model_cls", "untrained_cls", "pca", "gene_set"} <= set(part.index)
    assert part["n"].eq(80).all() and part["value"].between(0, 1).all()
    tasks = json.loads((tmp_path / "out/embeddings.json").read_text())["tasks"]
    assert tasks["in_turn"]["n_persons"] == 4
    assert tasks["held_out"] == {"why_not": "there are no held-out samples"}


def test_other_columns_can_hold_donors_and_labels(run, tmp_path, capsys):
    write_own(tmp_path / "mine.h5ad", patient=list("pq") * 40, state=["ill"] * 80)
    options = ["--donor-key", "patient", "--label-key", "state"]
    own(run, tmp_path / "mine.h5ad", tmp_path / "out", *options)
    assert pd.read_parquet(tmp_path / "out/by_label.parquet")["label"].tolist() == ["ill"]
    own(run, tmp_path / "mine.h5ad", tmp_path / "none", "--label-key", "nothing", code=2)
    said = capsys.readouterr().err
    assert "obs has no column 'nothing'" in said and "patient" in said


def test_baselines_need_other_donors_or_the_shards(run, tmp_path, capsys):
    write_own(tmp_path / "mine.h5ad", donors="a")
    own(run, tmp_path / "mine.h5ad", tmp_path / "none", code=2)
    assert "'new:a' is the file's only donor" in capsys.readouterr().err
    assert main(["evaluate", "--model", str(run / "run/best_model.pt"), "--out", str(tmp_path / "none")]) == 2
    assert "--shards is needed; or --h5ad" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["--evaluate-ratios", "1.5"], "evaluate.ratios"),
        (["--evaluate-max-cells", "0"], "evaluate.max_cells"),
        (["--evaluate-ridge-components", "0"], "evaluate.ridge_components"),
    ],
)
def test_bad_settings_are_refused(run, tmp_path, capsys, options, key):
    evaluate(run, tmp_path / "out", *options, code=2)
    assert key in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_without_scanpy_anndata_and_snakemake(run, tmp_path):
    heavy = ("scanpy", "anndata", "tiledbsoma", "h5py", "snakemake", "matplotlib", "numba", "sklearn")
    files = [run / "run/best_model.pt", run / "shards.json", run / "vocab.json", run / "samples.parquet", tmp_path]
    options = [text for name, file in zip(("model", "shards", "vocab", "samples", "out"), files, strict=True)
               for text in (f"--{name}", str(file))]  # fmt: skip
    code = f"import sys\nfor name in {heavy!r}: sys.modules[name] = None\n"
    code += f"from censusformer.cli import main\nsys.exit(main(['evaluate', *{options!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
