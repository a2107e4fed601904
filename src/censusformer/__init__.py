"""censusformer: from the CELLxGENE Census to a pretrained single-cell transformer.

In Python: `model = censusformer.load("best_model.pt")`, then `model.embed(adata)`; and
`model = censusformer.load_finetuned("finetuned.pt")`, then `model.predict(adata)`.
"""

import importlib

_HOMES = {"load": "censusformer.steps._model", "load_finetuned": "censusformer.steps._annotator"}
__all__ = ["load", "load_finetuned"]


def __getattr__(name: str) -> object:
    """What the package offers: a module is imported by its name when asked for, so no step depends on it or waits."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
