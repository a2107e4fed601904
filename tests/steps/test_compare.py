import json
import re

import numpy as np
import pandas as pd
import pytest

from censusformer.cli import main
from censusformer.evaluation.scores import COLUMNS

N, GENE_MEAN, RIDGE, FLOOR = 100, 160.0, 146.0, 38.0


def write_run(folder, errors, *, seed=0, lr=0.002, shift=0.0, split="test", config=True, samples=None):
    """The folder of an evaluated model, whose GEP has these errors by sample, and GEPC two more."""
    samples = [f"set:{i}" for i in range(len(errors))] if samples is None else samples
    rows = []
    for ratio in (0.25, 0.75):
        for sample, error in zip(samples, errors, strict=True):
            for head, name, mse in (("gep", "model", error), ("gepc", "model", error + 2), (None, "ridge", RIDGE),
                                    (None, "gene_mean", GENE_MEAN)):  # fmt: skip
                sums = (N, N * (25 + shift), N * 840.0, N * mse, N * 9.0, 5.0, 10, N * GENE_MEAN, N * FLOOR)
                where = {"split": split, "sample": sample, "mask_ratio": ratio, "head": head, "predictor": name}
                rows.append({**where, **dict(zip(COLUMNS, sums, strict=True))})
    place = folder / "evaluation"
    place.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(place / "by_sample.parquet")
    args = {"model": {"n_layers": 2}, "train": {"lr": lr, "seed": seed}}
    summary = {"model": {"args": args, "vocab_sha256": "a" * 64}, "shards_sha256": "b" * 64}
    (place / "summary.json").write_text(json.dumps(summary))
    if config:
        text = f"dataset: demo\nrun: {folder.name}\nmodel:\n  n_layers: 2\ntrain:\n  lr: {lr}\n  seed: {seed}\n"
        (folder / "config.yaml").write_text(text + "evaluate:\n  max_cells: 5\n")
    return folder


BASE = np.array([120.0, 150, 135, 160, 128, 144, 139, 131])


def compare(capsys, tmp_path, *folders, code=0):
    out = tmp_path / "compare.html"
    assert main(["compare", *map(str, folders), "--out", str(out)]) == code
    shown = capsys.readouterr()
    return (shown.out, out.read_text(encoding="utf-8")) if code == 0 else shown.err


def test_a_lead_on_all_samples_is_more_than_noise(tmp_path, capsys):
    a, b = write_run(tmp_path / "a", BASE), write_run(tmp_path / "b", BASE + 3 + np.sin(BASE), lr=0.001)
    printed, page = compare(capsys, tmp_path, b, a)
    assert "On held-out samples, a is better than b with both heads." in printed
    assert "On held-out samples, a is better than b with both heads." in page
    assert re.search(r"^a +b +GEP +-\d\.\d\d \(.*\) +more than noise$", printed, re.MULTILINE)
    assert "another seed of the same model could turn a difference round" in printed
    assert re.search(r"^a +0.002 +138\.4", printed, re.MULTILINE)  # the mean of BASE
    assert "146.0" in printed and "160.0" in printed


def test_a_lead_smaller_than_what_seeds_do_is_noise(tmp_path, capsys):
    runs = [
        write_run(tmp_path / f"{name}{seed}", BASE + lead + move, seed=seed, lr=lr)
        for name, lead, lr in (("slow", 1.0, 0.001), ("fast", 0.0, 0.002)) for seed, move in enumerate((-3, 0, 3))
    ]  # fmt: skip
    printed, page = compare(capsys, tmp_path, *runs)
    assert "the difference between fast (3 seeds) and slow (3 seeds) is noise with both heads" in page
    assert "6 models, 2 settings that differ in train.lr" in page
    assert "could turn a difference round" not in printed
    printed, _ = compare(capsys, tmp_path, runs[1], runs[4])
    assert "fast1 is better than slow1" in printed  # what one seed each would have said


def test_several_models_have_a_best_and_those_that_may_be_as_good(tmp_path, capsys):
    move = np.tile([-3, 3], 4)
    runs = [
        write_run(tmp_path / name, BASE + lead, lr=i)
        for i, (name, lead) in enumerate((("near", 0.2 + move), ("best", 0), ("far", 9)))
    ]
    printed, page = compare(capsys, tmp_path, *runs)
    assert "best is best with both heads, 1 of 2 others may be as good" in printed
    assert page.count("<svg") == 1


def test_other_hidden_values_are_compared_by_what_is_removed(tmp_path, capsys):
    a, b = write_run(tmp_path / "a", BASE), write_run(tmp_path / "b", BASE + 5, lr=0.1, shift=1)
    printed, _ = compare(capsys, tmp_path, a, b)
    assert "by the share of the reducible error removed" in (tmp_path / "compare.html").read_text()
    assert "asked for different hidden values" in printed


def test_settings_come_from_the_models_where_a_folder_has_no_config(tmp_path, capsys):
    runs = [write_run(tmp_path / f"a{seed}", BASE + seed, seed=seed, config=seed > 0) for seed in range(2)]
    printed, _ = compare(capsys, tmp_path, *runs, write_run(tmp_path / "b", BASE, lr=9))
    assert "train.lr" in printed and "a (2 seeds)" in printed


def test_a_folder_of_evaluate_itself_will_do(tmp_path, capsys):
    a, b = write_run(tmp_path / "a", BASE), write_run(tmp_path / "b", BASE - 1, lr=0.1)
    printed, _ = compare(capsys, tmp_path, a / "evaluation", b / "evaluation")
    assert "b/evaluation is better than a/evaluation" in printed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "valid"}, "validation cells alone"),
        ({"samples": [f"other:{i}" for i in range(8)]}, "no test sample was measured by all"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, capsys, change, said):
    a, b = write_run(tmp_path / "a", BASE), write_run(tmp_path / "b", BASE, **change)
    assert said in compare(capsys, tmp_path, a, b, code=2)
    assert "given twice" in compare(capsys, tmp_path, a, a, code=2)
    (a / "evaluation/by_sample.parquet").unlink()
    assert "run `censusformer evaluate` first" in compare(capsys, tmp_path, a, b, code=2)


def test_the_page_loads_nothing_and_shows_names_as_they_are(tmp_path, capsys):
    a, b = write_run(tmp_path / "<script>x()<", BASE), write_run(tmp_path / "b", BASE + 1, lr=0.1)
    _, page = compare(capsys, tmp_path, a, b)
    assert "<script" not in page and "&lt;script&gt;x()" in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "@import" not in page and "url(http" not in page
