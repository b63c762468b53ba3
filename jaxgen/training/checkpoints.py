"""Checkpoints of a run's state, through orbax."""

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxgen.errors import UserError
from jaxgen.model import PyTree


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is no warning of orbax that it removes what a killed process left of a save."""
    return not (record.module == "atomicity" and "already exists" in str(record.msg))


logging.getLogger("absl").addFilter(_is_news)


class Checkpoints:
    """The checkpoints of one run folder, saved in the background; the newest `keep` are kept, or all.

    Each holds the `fingerprint` of the data it was trained on.
    """

    def __init__(self, folder: Path, fingerprint: str, keep: int | None = None):
        self._folder, self._fingerprint = folder, fingerprint
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()  # waits for a save under way, and raises what went wrong with it

    def newest(self) -> int | None:
        """The step of the newest checkpoint; None where there is none."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Of all checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: PyTree, seconds: float) -> None:
        """Saves `tree` as the checkpoint of `step`, after so many seconds of training."""
        data = {"fingerprint": self._fingerprint, "seconds": seconds}
        args = ocp.args.Composite(state=ocp.args.StandardSave(tree), data=ocp.args.JsonSave(data))
        self._manager.save(step, args=args)

    def seconds(self, step: int) -> float:
        """Of training, before the checkpoint of `step`."""
        return self._data(step).get("seconds", 0.0)

    def _data(self, step: int) -> dict[str, Any]:
        return self._manager.restore(step, args=ocp.args.Composite(data=ocp.args.JsonRestore())).data

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The tree saved at `step`, with the structure, shapes and dtypes of `like` (arrays or abstract).

        Raises:
            UserError: it was trained on other data.
        """
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
        data = self._data(step)
        if data["fingerprint"] != self._fingerprint:
            raise UserError(f"{self._folder / str(step)} was trained on data of other content (fingerprint)")
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._manager.restore(step, args=args).state
