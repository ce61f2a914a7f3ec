"""Health of a run: monitors that name what goes wrong, with the evidence and what usually helps."""
