"""A run from outside: its folder, journal, failures, supervision, status, usage and profile."""
