"""What a model reads: the vocabulary, the shards of tokenised cells and the masks; numpy and pyarrow alone."""
