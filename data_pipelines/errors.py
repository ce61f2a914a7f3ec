"""The one error that users of the data pipelines meet."""


class DataError(ValueError):
    """A dataset is missing, damaged or does not fit; one line that names the file and what would be right."""
