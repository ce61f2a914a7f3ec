"""Hyperparameter sweeps: search spaces, searchers, schedulers, results. Trials are run by `launch.sweep`, with Ray."""
