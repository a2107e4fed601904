"""How many CPU threads PyTorch takes."""

import torch

_WIDE = 128  # model.d_model from which a second thread pays


def set_threads(d_model: int, wanted: int | None = None) -> None:
    """Set PyTorch's threads; without a wish one for narrow models, and PyTorch's own choice for wider ones.

    A narrow model's operations are too short to share. Measured on 2 cores, batches of 32 cells of 105 tokens: a second
    thread gains nothing at width 32, 1.3x at 64, 1.4x at 128; but where another process wants the cores, threads that
    wait for each other make all of these 10 to 20 times slower.
    """
    if wanted is not None:
        torch.set_num_threads(wanted)
    elif d_model < _WIDE:
        torch.set_num_threads(1)
