"""What goes wrong when images are scored."""

from bigtrain.core.errors import UserError


class EvaluationError(UserError):
    """Images, weights or statistics that a metric cannot work with."""
