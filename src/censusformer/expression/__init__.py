"""Normalisation, highly variable genes and binning: pure functions on arrays."""
