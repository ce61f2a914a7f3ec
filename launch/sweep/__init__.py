"""Runs the trials of a sweep with Ray Tune, or as Slurm jobs; a `TrialScheduler` decides on them."""

from launch.sweep.driver import Resources, run_trials
from launch.sweep.interface import TrialScheduler

__all__ = ["Resources", "TrialScheduler", "run_trials"]
