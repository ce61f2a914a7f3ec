"""Errors that the user can correct."""


class UserError(ValueError):
    """A mistake, or something missing, that the user can correct.

    The message is one line that names the place (a file and a key, or an option), the problem and the solution.
    """


class ConfigError(UserError):
    """A mistake in a config; the message names the file, the key and the solution."""


class InputError(UserError):
    """An input that a network does not accept, such as a label map with labels that the network does not have."""
