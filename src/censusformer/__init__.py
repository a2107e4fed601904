"""censusformer: from the CELLxGENE Census to a pretrained single-cell transformer.

In Python: `model = censusformer.load("best_model.pt")`, then `model.embed(adata)`.
"""

import importlib

__all__ = ["load"]


def __getattr__(name: str) -> object:
    """`load`: its module is imported by name when it is asked for, so that no step depends on it, nor waits for it."""
    if name in __all__:
        return getattr(importlib.import_module("censusformer.steps._model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
