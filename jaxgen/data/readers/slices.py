"""TFDS's slicing syntax for splits: train[:10%], train[1000:2000], train+test."""

import itertools
import re
from collections.abc import Mapping
from types import SimpleNamespace

from jaxgen.errors import UserError

Ranges = list[tuple[str, int, int]]
"""Parts of a split: (a split of the source, first example, end)."""


def ranges(dataset: str, wanted: Mapping[str, str], known: Mapping[str, int]) -> dict[str, Ranges]:
    """Resolves each wanted split to parts of the known splits, given their numbers of examples.

    Raises:
      UserError: a split that is not in TFDS's syntax, is empty, or shares examples with another.
    """
    found = {kind: _ranges(f"{kind}_split {split} of {dataset}", split, known) for kind, split in wanted.items()}
    for one, other in itertools.combinations(found, 2):
        if shared := _shared(found[one], found[other]):
            raise UserError(
                f"the splits of {dataset} overlap: {one} is {wanted[one]} and {other} is {wanted[other]}, with "
                f"{shared:,} examples in both; give {one}_split or {other}_split so that they have none"
            )
    return found


def _ranges(what: str, split: str, known: Mapping[str, int]) -> Ranges:
    import tensorflow_datasets as tfds

    has = " and ".join(f"{name} ({count:,})" for name, count in known.items())
    sizes = {name: SimpleNamespace(num_examples=count) for name, count in known.items()}
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes)
    except Exception as error:  # TFDS raises ValueError, NotImplementedError, and others by mistake
        raise UserError(
            f"{what}: {_words(error)}; it has {has}, to be sliced as in train[:10%], train[1000:2000] or train+test"
        ) from error
    found = [(part.splitname, part.from_ or 0, known[part.splitname] if part.to is None else part.to) for part in parts]
    if any(end <= start for _, start, end in found):
        raise UserError(f"{what} has an empty part: it must have examples of {has}")
    if any(_shared([one], [other]) for one, other in itertools.combinations(found, 2)):
        raise UserError(f"{what} has examples twice")
    return found


def _shared(ones: Ranges, others: Ranges) -> int:
    """Number of examples that two splits share."""
    return sum(
        max(0, min(end, last) - max(start, first))
        for (split, start, end), (other, first, last) in itertools.product(ones, others)
        if split == other
    )


def _words(error: Exception) -> str:
    """The last line of an error's message, where TFDS gives the reason."""
    if isinstance(error, AttributeError):  # the sizes given here have no shards
        return "examples are not counted in shards"
    lines = [line for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\. (See|Please) .*|\.$", "", lines[-1]) if lines else type(error).__name__
