"""The error a user can mend: one line that says what is wrong and what would be right."""


class UserError(Exception):
    """Shown as one line, without a traceback; the command exits with status 2."""
