"""Others' weights: read them, check ours against theirs, and hand ours on."""
