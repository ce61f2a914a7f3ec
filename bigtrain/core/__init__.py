"""Configs, random numbers, schedules, state and logging, which all other parts use."""
