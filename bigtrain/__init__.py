"""Distributed, large-scale GAN training."""

__version__ = "0.1.0"
