"""Parameters of a run in safetensors: a training seed's in files of its own, each leaf under its name in the state.

seed-S/model.safetensors      `params`, `extra` and `step`: everything that a sampler, a decoder or a prediction reads
seed-S/optimizer.safetensors  `opt_state`, with which training is resumed

The header has, under "jaxgen", a JSON object that describes the model.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from jaxgen.errors import UserError
from jaxgen.model import Model, State
from jaxgen.training.checkpoints import named

MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"

HEADER = "jaxgen"

TRAINED_BY = "opt_state/"
"""The beginning of the names of an optimizer's leaves."""


def folder_of(seed: int) -> str:
    """Name of the folder of a training seed's files."""
    return f"seed-{seed}"


def of_seed(state: State, index: int) -> State:
    """The part of a state [seeds, ...] of one seed, on the host."""
    return jax.tree.map(lambda leaf: np.array(leaf[index], order="C"), state)


def leaves(state: State) -> dict[str, np.ndarray]:
    """Map from name to leaf of a seed's state."""
    return named(state._asdict())


def weights(state: State) -> dict[str, np.ndarray]:
    """Map from name to the leaves of a seed's state that draw its images: all but the optimizer's."""
    return {name: leaf for name, leaf in leaves(state).items() if not name.startswith(TRAINED_BY)}


def as_state(model: Model, given: Mapping[str, Any]) -> State:
    """State of a model from the leaves of one seed; those of the optimizer are zeros where they are not given.

    Raises:
        KeyError: another leaf is missing.
    """
    like = jax.eval_shape(model.init, jax.random.key(0))._asdict()
    zeros = {
        name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in named(like).items() if name.startswith(TRAINED_BY)
    }
    filled = zeros | dict(given)
    return State(**jax.tree.unflatten(jax.tree.structure(like), [filled[name] for name in named(like)]))


def save(folder: Path, state: State, described: Mapping[str, Any]) -> None:
    """Writes both files of a seed's state into `folder`, with a description in their headers."""
    folder.mkdir(parents=True)
    header = {HEADER: json.dumps(described)}  # one entry, since safetensors writes several in any order
    own, every = weights(state), leaves(state)
    (folder / MODEL).write_bytes(safetensors.numpy.save(own, header))
    others = {name: leaf for name, leaf in every.items() if name not in own}
    (folder / OPTIMIZER).write_bytes(safetensors.numpy.save(others, header))


def load(folder: Path, files: Sequence[str] = (MODEL, OPTIMIZER)) -> dict[str, np.ndarray]:
    """Map from name to leaf, of the files in `folder`; raises UserError if one cannot be read."""
    found: dict[str, np.ndarray] = {}
    for name in files:
        try:
            found |= safetensors.numpy.load_file(folder / name)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            raise UserError(f"cannot read {folder / name}: {error}") from None
    return found


def check_same(found: Mapping[str, np.ndarray], wanted: Mapping[str, Any], where: Path) -> None:
    """Raises UserError unless `found`, of the files in `where`, has the names, dtypes and shapes of `wanted`."""
    for name in sorted(found.keys() ^ wanted.keys()):
        raise UserError(f"{where} and the model differ: {name} is only in the {'files' if name in found else 'model'}")
    for name, leaf in wanted.items():
        here, there = ((each.dtype, list(each.shape)) for each in (leaf, found[name]))
        if here != there:
            words = " ".join(map(str, there)), " ".join(map(str, here))
            raise UserError(f"{where} and the model differ in {name}: {words[0]} there, {words[1]} here")
