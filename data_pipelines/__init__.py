"""Datasets as WebDataset shards that never lose a sample; usable without the rest of bigtrain."""
