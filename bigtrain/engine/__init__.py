"""The training engine: players, phases, the step, optimizers, and averages of weights."""
