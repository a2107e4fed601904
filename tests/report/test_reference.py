import pandas as pd
import pytest

from censusformer.report.reference import changes


def metrics(rows):
    columns = ["epoch", "step", "split", "head", "mask_ratio", "mse", "span"]
    return pd.DataFrame(rows, columns=columns).astype({"mask_ratio": float})


def test_training_is_the_epochs_mean_and_validation_gep_at_half():
    found = changes(
        metrics(
            [
                (0, 0, "valid", "gep", 0.5, 141.0, "epoch"),  # before training: the published log has no such line
                (1, 5, "train", "gep", None, 400.0, "window"),
                (1, 10, "train", "gep", None, 130.0, "epoch"),
                (1, 10, "valid", "gep", 0.5, 128.0, "epoch"),
                (1, 10, "valid", "gep", None, 999.0, "epoch"),
                (2, 15, "train", "gep", None, 100.0, "window"),
                (2, 20, "train", "gep", None, 104.0, "epoch"),
                (2, 20, "valid", "gep", 0.5, 120.0, "epoch"),
                (2, 20, "valid", "gepc", 0.5, 1.0, "epoch"),
            ]
        )
    )
    assert (found["train", "gep"].first, found["train", "gep"].last) == (130.0, 104.0)
    assert found["train", "gep"].share == pytest.approx(-0.2)
    assert (found["window", "gep"].first, found["window", "gep"].last) == (400.0, 100.0)
    assert (found["valid", "gep"].first, found["valid", "gep"].last) == (128.0, 120.0)
    assert ("train", "sum") not in found


def test_without_half_masked_cells_all_ratios_stand_in():
    found = changes(metrics([(1, 1, "valid", "gep", None, 9.0, "epoch"), (1, 1, "valid", "gep", 0.3, 8.0, "epoch")]))
    assert found["valid", "gep"].first == 9.0
