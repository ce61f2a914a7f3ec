"""Slurm: write a batch script, submit it, and find its jobs again through the run folder alone."""
