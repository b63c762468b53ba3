"""Exceptions: `UserError`, one line that says what is wrong and how to fix it, and `Stopped`; and checks of configs."""

import difflib
import signal
from collections.abc import Collection, Iterable


class UserError(Exception):
    """A user's mistake, shown as one line without a traceback; the command exits with status 2."""


def did_you_mean(name: str, known: Iterable[str], most: int = 1, prefix: str = "") -> str:
    """Hint with at most `most` known names close to `name`, in any case, as "did you mean vae? "; "" if none is.

    Names that end with `name` as a word, as text_rate does with rate, come before other close ones, three at most. The
    names are shown with `prefix`.
    """
    names, name = {each.casefold(): prefix + each for each in known}, name.casefold()
    ending = [each for each in names if each.endswith(f"_{name}") and name not in names][:3]
    close = ending or difflib.get_close_matches(name, names, most)
    return f"did you mean {' or '.join(names[each] for each in close)}? " if close else ""


def suggest(name: str, known: Collection[str]) -> str:
    """End of a message: at most three known names close to `name`, or all of them if none is."""
    return did_you_mean(name, known, 3).rstrip() or f"there are {', '.join(known)}"


BY_SCHEDULERS = signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU
"""Signals by which Slurm, Grid Engine and limits of processor time announce the end of a job."""


class Stopped(KeyboardInterrupt):
    """A command was stopped by a signal; the message says where a run saved its state. `status` is the exit status."""

    def __init__(self, words: str, asked: signal.Signals):
        super().__init__(words)
        self.asked = asked
        # 75 is EX_TEMPFAIL, on which a scheduler restarts the job; others are the shell's, as 130 for Ctrl-C.
        self.status = 75 if asked in BY_SCHEDULERS else 128 + asked


LEAST, MOST = 2.0**-126, 2.0**127
"""Bounds of positive values: beyond them a value could become 0 or infinite in float32."""


def check_positive(config, *names: str) -> None:
    """Raises UserError unless these fields of a Config are above 0 and finite in int32 or float32, or None."""
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        if isinstance(value, int) and not 0 < value < 2**31:
            raise UserError(f"{name} must be above 0 and below 2^31, not {value}")
        if not LEAST <= value <= MOST:
            raise UserError(f"{name} must be above 0 and finite (from 1e-37 to 1e38), not {value}")


def check_not_negative(config, *names: str) -> None:
    """Raises UserError unless these fields of a Config are at least 0 and finite in int32 or float32, or None."""
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        if isinstance(value, int) and not 0 <= value < 2**31:
            raise UserError(f"{name} must be at least 0 and below 2^31, not {value}")
        if not 0 <= value <= MOST:
            raise UserError(f"{name} must be at least 0 and finite, not {value}")


def check_share(config, *names: str) -> None:
    """Raises UserError unless these fields of a Config are at least 0 and below 1."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{name} must be at least 0 and below 1, not {getattr(config, name)}")
