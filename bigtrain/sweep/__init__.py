"""Sweeps: what to try, who goes on, who has won. Knows nothing of Ray, which `launch.sweep` runs the trials with."""
