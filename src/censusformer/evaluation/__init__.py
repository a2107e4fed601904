"""What stands beside a model: baselines and scores, functions on arrays."""
