import numpy as np
import pandas as pd
import pytest

from censusformer.evaluation import compare
from censusformer.evaluation.compare import SEED, Run
from censusformer.evaluation.scores import COLUMNS

N, FLOOR = 200, 30.0


def table(errors, *, samples=None, shift=0.0):
    """`by_sample.parquet` of one split with these errors (bins²) of the model by sample; the gene mean errs by 160."""
    samples = [f"s{i:02d}" for i in range(len(errors))] if samples is None else samples
    rows = []
    for ratio in (0.25, 0.5):
        for sample, error in zip(samples, errors, strict=True):
            y, yy = N * (25.5 + shift), N * 850.0
            sums = dict(zip(COLUMNS, (N, y, yy, N * error, N * 9.0, 3.0, 10, N * 160.0, N * FLOOR), strict=True))
            where = {"split": "test", "sample": sample, "mask_ratio": ratio}
            rows += [{**where, "head": head, "predictor": "model", **sums} for head in ("gep", "gepc")]
            rows.append({**where, "head": None, "predictor": "gene_mean", **sums, "squared": N * 160.0})
    return pd.DataFrame(rows)


def run(name, errors, settings=None, **kind):
    return Run(name, settings or {"model.n_layers": name}, compare.sums_of(table(errors, **kind), "test"))


def groups(*runs):
    return compare.groups_of(runs)


def test_sums_add_the_ratios_up_and_baselines_stand_for_both_heads():
    one = run("a", [140.0, 120.0])
    assert one.of("gep")["n"].tolist() == [2 * N, 2 * N]
    assert one.of("gepc", "gene_mean")["squared"].sum() == 4 * N * 160.0
    assert one.has("gep", "gene_mean") and not one.has("gep", "ridge")


def test_runs_that_differ_in_the_seed_alone_are_one_group():
    settings = [{"train.lr": lr, SEED: seed} for lr, seed in ((0.1, 1), (0.2, 1), (0.1, 2), (0.1, 1))]
    names = ["base-train.lr_0.1-train.seed_1", "fast", "base-train.lr_0.1-train.seed_2", "again"]
    found = groups(*(run(name, [1.0], one) for name, one in zip(names, settings, strict=True)))
    assert [group.name for group in found] == ["base-train.lr_0.1 (2 seeds)", "fast", "again"]
    assert found[0].seeds == [1, 2]
    assert compare.differing(found) == ["train.lr"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["d_0.3", "d_0.3-train.seed_1", "d_0.3-train.seed_2"], "d_0.3"),
        (["demo/base-train.seed_1", "demo/base-train.seed_12"], "demo/base"),
        (["fast_seed0", "fast_seed1"], "fast"),
        (["run1", "run2"], "run"),
        (["one", "two"], "one"),
    ],
)
def test_a_group_is_called_what_its_runs_names_begin_with(names, said):
    (group,) = groups(*(run(name, [1.0], {SEED: i}) for i, name in enumerate(names)))
    assert group.name == f"{said} ({len(names)} seeds)"


def test_a_lead_on_every_sample_is_no_noise():
    rng = np.random.default_rng(0)
    base = rng.normal(140, 20, 12)  # samples differ far more than models do
    one, other = groups(run("a", base), run("b", base + rng.normal(2, 0.5, 12)))
    none = compare.seed_noise([one, other], "gep", "mse")
    found = compare.difference(one, other, "gep", "mse", none)
    assert found.verdict == "better" and found.same_values
    assert found.estimate.value == pytest.approx(np.mean(base) - compare.estimate(other, "gep", "mse", none).value)
    assert found.estimate.basis == "samples"
    assert compare.difference(other, one, "gep", "mse", none).verdict == "worse"
    assert compare.difference(one, other, "gep", "reducible_removed", none).verdict == "better"
    (pair,) = compare.all_differences([other, one], "gep", "mse")
    assert (pair.one, pair.other) == ("a", "b")


def test_a_model_beside_itself_is_noise():
    one, other = groups(run("a", [140.0, 120, 130, 150, 160]), run("b", [140.0, 120, 130, 150, 160]))
    found = compare.difference(one, other, "gep", "mse", compare.seed_noise([one, other], "gep", "mse"))
    assert (found.estimate.value, found.verdict) == (0, "noise")


def test_seeds_that_scatter_more_than_the_lead_make_it_noise():
    base = np.linspace(120, 160, 12)
    runs = [
        run(f"{name}{seed}", base + lead + move, {"model": name, SEED: seed})
        for name, lead in (("a", 0), ("b", 1)) for seed, move in enumerate((-4, 0, 4))
    ]  # fmt: skip
    one, other = groups(*runs)
    noise = compare.seed_noise([one, other], "gep", "mse")
    assert noise.freedom == 4
    assert noise.variance == pytest.approx(16)
    found = compare.difference(one, other, "gep", "mse", noise)
    assert (found.verdict, found.estimate.basis) == ("noise", "samples and seeds")
    alone = compare.difference(*groups(runs[1], runs[4]), "gep", "mse", compare.SeedNoise(np.nan, 0))
    assert alone.verdict == "better"  # what one seed each would have said


def test_too_few_samples_and_one_seed_say_nothing():
    one, other = groups(run("a", [100.0, 100]), run("b", [150.0, 150]))
    found = compare.difference(one, other, "gep", "mse", compare.seed_noise([one, other], "gep", "mse"))
    assert (found.verdict, found.estimate.basis) == ("unknown", "")


def test_other_hidden_values_and_other_samples_are_seen():
    base = [140.0, 120, 130, 150, 160, 170]
    one, other = groups(run("a", base), run("b", base, shift=0.1))
    assert not compare.same_values([one, other], "gep")
    fewer = run("c", base[:5], samples=[f"s{i:02d}" for i in range(1, 6)])
    one, other = groups(run("a", base), fewer)
    assert compare.common_samples([one, other], "gep") == [f"s{i:02d}" for i in range(1, 6)]
    found = compare.difference(one, other, "gep", "mse", compare.SeedNoise(np.nan, 0))
    assert found.estimate.n_samples == 5
    assert found.estimate.value == pytest.approx(np.mean(base[1:]) - np.mean(base[:5]))
    nothing = groups(run("a", base), run("d", base, samples=list("uvwxyz")))
    assert compare.difference(*nothing, "gep", "mse", compare.SeedNoise(np.nan, 0)).verdict == "unknown"


def test_intervals_over_seeds_hold_the_truth_as_often_as_they_say():
    """Two groups of three seeds without any difference: about one in twenty is taken for more than noise."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(80):
        base = rng.normal(140, 20, 10)
        runs = [
            run(f"{name}{seed}", base + rng.normal(0, 1) + rng.normal(0, 1, 10), {"model": name, SEED: seed})
            for name in "ab" for seed in range(3)
        ]  # fmt: skip
        one, other = groups(*runs)
        noise = compare.seed_noise([one, other], "gep", "mse")
        wrong += compare.difference(one, other, "gep", "mse", noise).verdict != "noise"
    assert 1 <= wrong <= 9
