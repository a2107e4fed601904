"""Opening and querying SOMA, choosing samples, the demo census, h5ad to SOMA."""
