"""What is trained against what: each task owns its players and the phases of a step."""
