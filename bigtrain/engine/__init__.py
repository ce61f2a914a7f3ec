"""What every task is trained by: players, phases, the step, averages of weights."""
