"""Scores as functions of statistics of features."""
