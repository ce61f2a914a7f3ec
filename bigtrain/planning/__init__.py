"""What a run will cost, before it is paid for: computed from its config, without its data and without its hardware."""
