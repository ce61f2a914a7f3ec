"""Start training: on this machine, on Slurm, in sweeps. Imports nothing from the trainer, which it only runs."""
