"""The errors that are the user's to mend."""


class UserError(ValueError):
    """A mistake or a missing thing that the user can mend: one line that says what is wrong and what would be right."""


class ConfigError(UserError):
    """A user's mistake in a config; the message is one line with the file, the key and what would be right."""
