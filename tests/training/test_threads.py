import pytest
import torch

from censusformer.training import set_threads


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("width", "wanted", "threads"), [(32, None, 1), (127, None, 1), (128, None, 2), (32, 3, 3)])
def test_narrow_models_take_one_thread_unless_told_otherwise(width, wanted, threads):
    torch.set_num_threads(2)
    set_threads(width, wanted)
    assert torch.get_num_threads() == threads
