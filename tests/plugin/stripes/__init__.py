"""A network, a term, a task, a metric, an extractor and a kind of field that bigtrain does not have."""
