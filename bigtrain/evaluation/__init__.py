"""Scores of a generator, computed by all ranks together."""
