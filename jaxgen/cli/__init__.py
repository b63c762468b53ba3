"""The command line: `main` runs a command and turns its errors into one line and an exit status."""

import contextlib
import inspect
import io
import os
import sys
import traceback
from typing import Any, NoReturn

import jaxgen
from jaxgen import signals
from jaxgen.cli.commands import COMMANDS
from jaxgen.errors import Stopped, UserError, did_you_mean

TOO_LARGE = ("out of memory", "array of size exceeding")
"""Parts of JAX's messages about arrays that do not fit in memory, and about impossibly large ones."""

NARROWEST = 20
"""Minimum width of a terminal, in columns."""

LESS_MEMORY = "a smaller model, --batch-size or number of seeds takes"


class Lasting:
    """A text stream that drops what cannot be written: a terminal that was closed ends no training."""

    def __init__(self, stream: io.TextIOWrapper):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or drops; the length of the text."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes, or turns the stream into one that goes nowhere."""
        try:
            self._stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def program() -> NoReturn:
    """Runs the command of this process's arguments, and ends the process."""
    _open_streams()
    with signals.watched():
        status = main()
        if status in {Stopped("", asked).status for asked in signals.HEEDED}:
            _leave(status)  # Python would wait for what the device still computes
    sys.exit(status)


def _leave(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or read by a process that has ended
            stream.flush()
    os._exit(status)


def _open_streams() -> None:
    """Opens what of stdin, stdout and stderr is closed as the null device: a file opened next would take its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - for good
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = Lasting(sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit status. A user's mistake is one line on stderr and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):  # if not UTF-8, replace characters that it cannot encode
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
    if (columns := os.environ.get("COLUMNS", "")).isdigit() and int(columns) < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)  # rich would print nothing in 0 columns
    with signals.handled(signals.end):
        status = _status(argv)
    if status and "--distributed" in argv:  # else JAX waits for the other processes, which wait for this one
        _leave(status)
    return status


def _status(argv: list[str]) -> int:
    try:
        return _run(argv)
    except SystemExit as stopped:  # --help
        return int(stopped.code or 0)
    except UserError as error:
        return fail(str(error))
    except BrokenPipeError:  # the reader, e.g. `head`, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a folder that cannot be written, a full disk
        if error.strerror is None:
            raise
        if not _has_current_folder():
            return fail("the current folder was deleted: change to one that exists")
        return fail(f"cannot use {error.filename}: {error.strerror}" if error.filename else error.strerror)
    except (MemoryError, RuntimeError, ValueError, AssertionError) as error:  # all but the first may be JAX's
        if words := _of_jax_settings(error):
            return fail(words)
        if not isinstance(error, MemoryError | RuntimeError):
            raise
        words = str(error)
        if isinstance(error, RuntimeError) and not any(said in words.lower() for said in TOO_LARGE):
            raise
        less = "fewer --num or --steps, or fewer seeds, take" if argv[0] == "sample" else LESS_MEMORY
        return fail(f"out of memory; {less} less ({words[:200]})")
    except KeyboardInterrupt as stopped:  # a signal; a training run adds a message
        way = {"train": "; --resume resumes from the newest checkpoint", "compare": "; the same command resumes it"}
        told = f"{stopped}{way.get(argv[0], '')}" if str(stopped) else "stopped"
        print(f"jaxgen: {told}", file=sys.stderr)
        return getattr(stopped, "status", 130)


def _has_current_folder() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _of_jax_settings(error: BaseException) -> str:
    """The message for an error due to JAX's environment variables; "" for any other error."""
    if "Disallowed" in str(error) and "transfer" in str(error):
        return "JAX is told to refuse transfers to and from devices, which jaxgen needs: unset JAX_TRANSFER_GUARD"
    files = [frame.f_code.co_filename.replace(os.sep, "/") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, ValueError) and any(file.endswith("jax/_src/config.py") for file in files):
        return f"an environment variable of JAX has a value that it does not take: {error}"
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as failed:  # then `error` came of it; JAX hides where
        names = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "XLA_FLAGS")
        given = {name: os.environ[name] for name in names if os.environ.get(name)}
        settings = " ".join(f"{name}={value}" for name, value in given.items()) or "its defaults"
        reason = str(failed).partition(" (set ")[0] or "no such device"
        ways = [f"unset {' and '.join(given)}"] if given else []
        ways += ["choose JAX_PLATFORMS=cpu"] if given.get("JAX_PLATFORMS") != "cpu" else []
        return f"JAX cannot start with {settings} ({reason}): {', or '.join(ways)}"
    return ""


def fail(words: str) -> int:
    """Prints an error in one line on stderr and returns its exit status."""
    print(f"jaxgen: error: {' '.join(words.split())}", file=sys.stderr)
    return 2


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        print(f"jaxgen {jaxgen.__version__}")
        return 0
    if argv[0] not in COMMANDS:
        hint = did_you_mean(argv[0], COMMANDS)
        raise UserError(f"unknown command {argv[0]!r}: {hint}there are {', '.join(COMMANDS)}")
    return COMMANDS[argv[0]](argv[1:]) or 0


def _overview() -> str:
    docs = {name: inspect.getdoc(command) or "" for name, command in COMMANDS.items()}
    lines = [f"  {name:12} {doc.partition(chr(10))[0]}".rstrip() for name, doc in docs.items()]
    if not any(docs.values()):
        lines.append("\nHelp texts are docstrings, which Python leaves out with -OO (PYTHONOPTIMIZE=2).")
    return "\n".join(
        [
            "usage: jaxgen COMMAND ...",
            "",
            "Image-generating models in JAX, trained and compared over many seeds.",
            "",
            *lines,
            "",
            "`jaxgen COMMAND --help` explains a command, `jaxgen train MODEL --help` every field of a model.",
        ]
    )
