"""Signing of runs: the files that define a run and its parameters, and whether they are as they were signed."""

from pathlib import Path

from jaxgen.errors import UserError
from jaxgen.files import write_whole
from jaxgen.provenance import signature
from jaxgen.provenance.keys import Keys
from jaxgen.training import dataset_file, folder
from jaxgen.training.lock import is_locked, owner

SIGNED = (folder.CONFIG, folder.ENVIRONMENT, folder.METRICS, folder.RESULT, folder.MODEL_FILE)
SIGNED += (dataset_file.DESCRIPTION, dataset_file.ARRAYS, dataset_file.VOCABULARY)
"""Files that are signed, as far as a run has them, beside its checkpoints and what its model file imports. Pictures,
scores and events can be made from them, and are made later."""


def sign(path: Path, keys: Keys) -> str:
    """Writes the signature of a run into its folder, in place of an earlier one; returns a line about it.

    Raises:
        UserError: there is no run, it trains now, or cryptography is not installed.
    """
    folder.read_config(path)
    if is_locked(path):
        raise UserError(f"{path} is in use by {owner(path)}: sign it when it has ended")
    digests = signature.file_digests(path, files(path))
    write_whole(path / signature.FILE, signature.signed(path.resolve().name, digests, keys))
    return f"{path / signature.FILE}: {len(digests)} files"


def check(path: Path, root: bytes | None) -> str:
    """Checks a run's signature, as `jaxgen.provenance.signature.check` does."""
    return signature.check(path, files(path), root)


def files(path: Path) -> list[str]:
    """The files of a run that are signed, relative to its folder.

    Raises:
        UserError: environment.json names a file outside the run.
    """
    imports = folder.read_environment(path).get("model_imports", {})
    if outside := [name for name in imports if ".." in Path(name).parts or Path(name).is_absolute()]:
        raise UserError(f"{path / folder.ENVIRONMENT} names a file outside the run: {outside[0]!r}")
    named = [name for name in (*SIGNED, *imports) if (path / name).is_file()]
    below = [file for file in (path / folder.CHECKPOINTS).rglob("*") if file.is_file()]
    return named + [file.relative_to(path).as_posix() for file in below]
