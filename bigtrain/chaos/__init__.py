"""Break a run on purpose, and see whether it ends as if nothing had happened."""
