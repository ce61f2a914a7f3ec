"""Run the trials of a sweep with Ray Tune. Knows nothing of what is trained: a referee decides, see `Referee`."""

from launch.sweep.driver import Resources, run_trials
from launch.sweep.referee import Referee

__all__ = ["Referee", "Resources", "run_trials"]
