"""censusformer: from the CELLxGENE Census to a pretrained single-cell transformer."""

__version__ = "0.1.0"
