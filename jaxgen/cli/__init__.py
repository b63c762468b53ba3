"""The command line: `main` runs a command and turns its errors into one line and an exit status."""

import difflib
import inspect
import io
import os
import sys
import traceback

import jaxgen
from jaxgen import signals
from jaxgen.cli.commands import COMMANDS
from jaxgen.errors import UserError

TOO_LARGE = ("out of memory", "array of size exceeding")
"""What jax says of arrays that do not fit, and of those that nothing would fit."""

LESS_MEMORY = "a smaller model, --batch-size or number of seeds takes"


def main(argv: list[str] | None = None) -> int:
    """Runs a command; the exit status. A user's mistake is one line on stderr and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):  # where it is not UTF-8, what it cannot say is replaced
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with signals.handled(signals.end):
        status = _status(argv)
    if status and "--distributed" in argv:  # else JAX waits for the others, which wait for this process
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _status(argv: list[str]) -> int:
    try:
        return _run(argv)
    except SystemExit as stopped:  # --help
        return int(stopped.code or 0)
    except UserError as error:
        return fail(str(error))
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a folder that cannot be written, a full disk
        if error.strerror is None:
            raise
        return fail(f"cannot use {error.filename}: {error.strerror}" if error.filename else error.strerror)
    except (MemoryError, RuntimeError, ValueError, AssertionError) as error:  # but for the first JAX's
        if words := _of_jax_settings(error):
            return fail(words)
        if not isinstance(error, MemoryError | RuntimeError):
            raise
        words = str(error)
        if isinstance(error, RuntimeError) and not any(said in words.lower() for said in TOO_LARGE):
            raise
        less = "fewer --num or --steps, or fewer seeds, take" if argv[0] == "sample" else LESS_MEMORY
        return fail(f"out of memory; {less} less ({words[:200]})")
    except KeyboardInterrupt as stopped:  # by a signal; where a run trained it has words
        way = {"train": "; --resume goes on from the newest checkpoint", "compare": "; the same command goes on"}
        told = f"{stopped}{way.get(argv[0], '')}" if str(stopped) else "stopped"
        print(f"jaxgen: {told}", file=sys.stderr)
        return getattr(stopped, "status", 130)


def _of_jax_settings(error: BaseException) -> str:
    """What is wrong with the environment's settings of JAX, where that is the error; else ""."""
    files = [frame.f_code.co_filename.replace(os.sep, "/") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, ValueError) and any(file.endswith("jax/_src/config.py") for file in files):
        return f"an environment variable of JAX has a value that it does not take: {error}"
    if any(file.endswith("jax/_src/xla_bridge.py") for file in files):
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).partition(" (set ")[0] or "no such device"
        return f"JAX cannot start with JAX_PLATFORMS={platforms} ({reason}): unset it, or choose cpu"
    return ""


def fail(words: str) -> int:
    """Says what was wrong, in one line on stderr; the exit status for it."""
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
        close = difflib.get_close_matches(argv[0], COMMANDS, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"unknown command {argv[0]!r}: {meant}there are {', '.join(COMMANDS)}")
    COMMANDS[argv[0]](argv[1:])
    return 0


def _overview() -> str:
    docs = {name: inspect.getdoc(command) or "" for name, command in COMMANDS.items()}
    lines = [f"  {name:10} {doc.partition(chr(10))[0]}".rstrip() for name, doc in docs.items()]
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
