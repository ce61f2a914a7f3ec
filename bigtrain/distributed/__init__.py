"""Ranks, collective operations, precision, and what measures and watches the ranks."""
