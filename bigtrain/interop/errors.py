"""What is the user's to mend in others' weights."""

from bigtrain.core.errors import UserError


class InteropError(UserError):
    """Others' weights or numbers are missing, damaged, refused, or do not fit."""
