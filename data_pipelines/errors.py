"""The errors that users of the data pipelines meet."""


class DataError(ValueError):
    """A dataset is missing, damaged or does not fit; one line that names the file and what would be right."""


class UnreachableError(DataError):
    """A server did not answer, or not well, however often it was asked; later it may."""
