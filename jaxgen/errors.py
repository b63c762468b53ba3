"""The error a user can mend: one line that says what is wrong and what would be right; and a run's being stopped."""

import signal


class UserError(Exception):
    """Shown as one line, without a traceback; the command exits with status 2."""


class Stopped(KeyboardInterrupt):
    """A run was asked to stop, and has saved its state; its words say where. `status` is the exit status."""

    def __init__(self, words: str, asked: signal.Signals):
        super().__init__(words)
        self.asked = asked
        # EX_TEMPFAIL, by which a scheduler knows to start it again; the shell's of Ctrl-C.
        self.status = 75 if asked == signal.SIGTERM else 130


LEAST, MOST = 2.0**-126, 2.0**127
"""Of float32's normal numbers: a value beyond would be 0 or infinite where models compute."""


def check_positive(config, *names: str) -> None:
    """Raises UserError where one of these fields of a Config is not a finite number above 0, of int32 or float32.

    None stands for a field that is not given.
    """
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        if isinstance(value, int) and not 0 < value < 2**31:
            raise UserError(f"{name} must be above 0 and below 2^31, not {value}")
        if not LEAST <= value <= MOST:
            raise UserError(f"{name} must be above 0 and finite (from 1e-37 to 1e38), not {value}")


def check_not_negative(config, *names: str) -> None:
    """Raises UserError where one of these fields of a Config is not at least 0 and finite, of int32 or float32.

    None stands for a field that is not given.
    """
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        if isinstance(value, int) and not 0 <= value < 2**31:
            raise UserError(f"{name} must be at least 0 and below 2^31, not {value}")
        if not 0 <= value <= MOST:
            raise UserError(f"{name} must be at least 0 and finite, not {value}")


def check_share(config, *names: str) -> None:
    """Raises UserError where one of these fields of a Config is not at least 0 and below 1."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{name} must be at least 0 and below 1, not {getattr(config, name)}")
