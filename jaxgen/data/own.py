"""A dataset file of a user's own, `--dataset ./mydata.py`: a reader with checks of what it returns.

The file has a function `read(options) -> Source` and, if its content comes from elsewhere, `identity(options) -> str`
(`jaxgen.data.source`). The identity includes the sha256 of the file and of the files beside it that it imports.
"""

import hashlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.source import SPLITS, Source
from jaxgen.errors import UserError
from jaxgen.user_files import load_file

RANKS = {"image": 4, "label": 1, "caption": 1, "point": 2, "mesh": 3}
"""Map from entry to the number of its axes."""


@dataclass(frozen=True)
class Reader:
    """The reader in a file."""

    path: Path

    def identity(self, options: Options) -> str:
        """The identity of the content: the code's, and what the file's own `identity` says.

        Raises:
          UserError: the file cannot be imported, or its function fails or returns something else.
        """
        module, imported = load_file(self.path, "dataset")
        digest = hashlib.sha256(self.path.read_bytes())
        for name, file in sorted(imported.items()):
            digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        told = self._called(module.identity, options) if hasattr(module, "identity") else ""
        if not isinstance(told, str):
            raise UserError(f"{self.path}: identity must return a str, not {type(told).__name__}")
        return f"{digest.hexdigest()} {told}"

    def read(self, options: Options) -> Source:
        """The file's content, checked.

        Raises:
          UserError: the file cannot be imported, has no `read`, or `read` fails or returns something else.
        """
        module, _ = load_file(self.path, "dataset")
        if not callable(getattr(module, "read", None)):
            raise UserError(f"{self.path} has no function read(options) that returns a jaxgen.data.source.Source")
        source = self._called(module.read, options)
        if not isinstance(source, Source):
            raise UserError(f"{self.path}: read must return a jaxgen.data.source.Source, not {type(source).__name__}")
        if not isinstance(source.splits, Mapping) or set(source.splits) != set(SPLITS):
            raise UserError(f"{self.path}: splits must be a dict of {', '.join(SPLITS)}")
        for split, examples in source.splits.items():
            if isinstance(examples, Mapping):
                self._check(split, examples, source)
        return source._replace(splits={split: source.splits[split] for split in SPLITS})

    def _called(self, function: Callable, options: Options) -> Any:
        try:
            return function(options)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            own = [each for each in traceback.extract_tb(error.__traceback__) if Path(each.filename) == self.path]
            line = f" (line {own[-1].lineno})" if own else ""
            words = " ".join(str(error).split())[:200]
            raise UserError(f"{self.path}: {function.__name__} raised {type(error).__name__}{line}: {words}") from error

    def _check(self, split: str, examples: Mapping[str, Any], source: Source) -> None:
        """Raises UserError unless a split has known entries of equal lengths and the right kind."""
        first = source.splits["train"]
        if not examples or not isinstance(first, Mapping) or examples.keys() != first.keys():
            raise UserError(f"{self.path}: {split} must have the entries of train, and at least one")
        if unknown := [name for name in examples if name not in RANKS]:
            raise UserError(f"{self.path}: {split} has an entry {unknown[0]!r}; there are {', '.join(RANKS)}")
        lengths = {}
        for name, entry in examples.items():
            where = f"{self.path}: {name} of {split}"
            if not isinstance(entry, np.ndarray) or entry.ndim != RANKS[name] or not len(entry):
                shape = list(entry.shape) if hasattr(entry, "shape") else type(entry).__name__
                raise UserError(f"{where} must be an array of {RANKS[name]} axes with examples, not {shape}")
            lengths[name] = len(entry)
            wrong = {
                "image": entry.dtype != np.uint8 or entry.shape[-1] not in (1, 3),
                "label": entry.dtype.kind not in "iu",
                "caption": entry.dtype.kind not in "UO",
            }
            if wrong.get(name, entry.dtype.kind != "f"):
                kinds = {"image": "uint8 with 1 or 3 channels last", "label": "whole numbers", "caption": "text"}
                raise UserError(f"{where} must be {kinds.get(name, 'floats')}, not {entry.dtype} {list(entry.shape)}")
            if entry.shape[1:] != first[name].shape[1:]:
                raise UserError(f"{where} is {list(entry.shape[1:])}, that of train {list(first[name].shape[1:])}")
        if len(set(lengths.values())) > 1:
            raise UserError(f"{self.path}: entries of {split} differ in length: {lengths}")
        if "label" in examples and not source.classes:
            raise UserError(f"{self.path}: labels need classes, their names, in the Source")
