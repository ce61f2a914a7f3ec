"""Classifiers trained on a dataset's own training part, whose features scores are computed in."""
