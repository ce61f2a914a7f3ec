"""Reports of a run: the spool in its folder, and MLflow."""
