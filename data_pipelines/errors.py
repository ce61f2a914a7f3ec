"""The errors that users of the data pipelines meet."""


class DataError(ValueError):
    """A dataset is missing, damaged or does not fit; one line that names the file and says how to correct it."""


class UnreachableError(DataError):
    """Something could not be fetched now, though it may be whole: a server does not answer, or a disk is full.

    No other sample stands in for what is unreachable: a run that met this ends, and goes on where it was.
    """


def first_line(error: BaseException) -> str:
    """Return what an error says, for a message of one line; its kind, where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
