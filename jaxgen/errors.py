"""The error a user can mend: one line that says what is wrong and what would be right."""


class UserError(Exception):
    """Shown as one line, without a traceback; the command exits with status 2."""


def check_positive(config, *names: str) -> None:
    """Raises UserError where one of these fields of a Config is not above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise UserError(f"{name} must be above 0, not {getattr(config, name)}")
