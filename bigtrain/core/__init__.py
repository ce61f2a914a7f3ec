"""What every part stands on: configs, random numbers, schedules, state, logging."""
