"""Operators with a fast path and a plain reference twin."""
