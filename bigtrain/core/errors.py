"""The errors that are the user's to mend."""


class UserError(ValueError):
    """A mistake or a missing thing that the user can mend: one line that says what is wrong and what would be right."""
