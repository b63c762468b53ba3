"""Commands that read run folders: `runs`, `verify`, `digest`, `sign` and its `keys`."""

import sys
from pathlib import Path

from jaxgen.cli.commands.common import positional, print_digests, use_cpu
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError


def runs_command(argv: list[str]) -> None:
    """List the runs below a folder: running, done, stopped, diverged or damaged."""
    path, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("runs", argv)

    def runs_() -> None:
        """List the runs below a folder: running, done, stopped, diverged or damaged.

        jaxgen runs [FOLDER]     FOLDER is runs if not given

        A run is damaged if a file or a checkpoint's record cannot be read; `jaxgen verify` checks everything.
        If stdout is no terminal, a run is a line of fields separated by tabs: folder, state, step, number of steps that
        it takes, model, data, seeds, seconds, note.
        """
        from rich.console import Console

        use_cpu()
        from jaxgen.cli.tables import runs_lines, runs_table
        from jaxgen.training.status import runs_below, standing

        found = runs_below(path)
        if not found:
            print(f"no run below {path}", file=sys.stderr)  # stdout has runs only
            return
        console, standings = Console(), [standing(run) for run in found]
        if console.is_terminal:
            console.print(runs_table(standings, console), crop=False)  # a name is whole
        else:
            print(*runs_lines(standings), sep="\n")

    parse(runs_, rest, "jaxgen runs [FOLDER]")


def verify_command(argv: list[str]) -> None:
    """Verify the files of a run: checkpoints, rows, pictures, data, digests, signature.

    Prints a line per part of every run below the folder. Exit status 2 if a part differs from what was written.
    """
    path, rest = positional(argv, "verify", "a run folder", "RUN")

    def verify(trust: Path | None = None) -> None:
        """Verify the files of a run: checkpoints, rows, pictures, data, digests, signature.

        RUN is a run folder, or a folder of runs. Prints a line per part and changes nothing. Exit status 2 if a part
        differs from what was written or, with --trust, if a run is not signed by a signer of that root.

        Args:
            trust: the root.pem of the keys that `jaxgen sign` used; your own keys' if not given
        """
        use_cpu()
        from jaxgen.provenance.keys import trusted_root
        from jaxgen.provenance.signature import FILE
        from jaxgen.training.status import DAMAGED, OK, runs_below, verified

        found, signed, bad, count = runs_below(path), 0, 0, 0
        if not found:
            raise UserError(f"no run below {path}")
        root = trusted_root(trust)
        for run in found:
            print(run)
            for what, words, state in verified(run, root):
                print(f"  {state:11} {what:20} {words}", flush=True)
                bad, count = bad + (state == DAMAGED), count + 1
                signed += (what, state) == (FILE, OK)
        if bad:
            raise UserError(f"{bad} of {count} parts of {path} are not as they were written")
        if trust and signed < len(found):
            raise UserError(f"{len(found) - signed} of {len(found)} runs are not signed by a signer of {trust}")

    parse(verify, rest, "jaxgen verify RUN")


def sign_command(argv: list[str]) -> None:
    """Sign a run: its config, checkpoints and rows, by your own key.

    `jaxgen verify RUN` then checks the signature too.
    """
    path, rest = positional(argv, "sign", "a run folder", "RUN")

    def sign() -> None:
        """Sign a run: its config, checkpoints and rows, by your own key.

        Writes RUN/model.sig, a signature as OpenSSF Model Signing defines it, which `jaxgen verify RUN` checks.
        `jaxgen keys make` makes the key. A run that was resumed must be signed again.
        """
        use_cpu()
        from jaxgen.provenance.keys import own_keys
        from jaxgen.training.signing import sign

        print(sign(Path(path), own_keys()))

    parse(sign, rest, "jaxgen sign RUN")


def keys_command(argv: list[str]) -> None:
    """Make the keys with which you sign runs and pictures.

    jaxgen keys make
    """
    action, rest = positional(argv, "keys", "an action", "make")
    if action != "make":
        raise UserError(f"unknown action {action!r} of `jaxgen keys`: there is make")

    def keys_make() -> None:
        """Make the keys with which you sign runs and pictures.

        A root, a signer and a watermark's key are written into JAXGEN_KEYS_DIR, or ~/.config/jaxgen/keys if it is not
        set, for you alone to read.
        Publish root.pem: who trusts it trusts what you sign. It proves who holds the keys, not who that is.
        """
        from jaxgen.provenance.keys import keys_dir, make

        print(*make(keys_dir()), sep="\n")

    parse(keys_make, rest, "jaxgen keys make")


def digest_command(argv: list[str]) -> None:
    """Print the sha256 of the parameters of every seed of a run.

    Prints one line per seed, `digest SEED HEX`.
    """
    path, rest = positional(argv, "digest", "a run folder", "RUN")

    def digest(checkpoint: str = "newest") -> None:
        """Print the sha256 of the parameters of every seed of a run.

        Prints one line per seed, `digest SEED HEX`.

        Args:
            checkpoint: newest, a step, or best (each seed's own, by the run's keep_best)
        """
        use_cpu()
        from jaxgen.training import open_run

        print_digests(open_run(path, checkpoint))

    parse(digest, rest, "jaxgen digest RUN")
