"""The error a user can mend: one line that says what is wrong and what would be right."""


class UserError(Exception):
    """Shown as one line, without a traceback; the command exits with status 2."""


def check_positive(config, *names: str) -> None:
    """Raises UserError where one of these fields of a Config is not a finite number above 0."""
    for name in names:
        if not 0 < getattr(config, name) < float("inf"):
            raise UserError(f"{name} must be above 0 and finite, not {getattr(config, name)}")


def check_share(config, *names: str) -> None:
    """Raises UserError where one of these fields of a Config is not at least 0 and below 1."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{name} must be at least 0 and below 1, not {getattr(config, name)}")
