"""What goes wrong when images are scored."""

from bigtrain.core.errors import UserError


class EvaluationError(UserError):
    """Images, weights or statistics that a metric cannot work with."""


class ImagesError(EvaluationError):
    """Images that cannot be read, or are none: their score would be of something else."""


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """An evaluation was broken off because the process was asked to stop; it is to be done again."""
