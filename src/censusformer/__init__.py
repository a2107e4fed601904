"""censusformer: from the CELLxGENE Census to a pretrained single-cell transformer."""
