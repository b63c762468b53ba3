"""Checkpoints of a run's state, through orbax."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from jaxgen.model import PyTree

KEEP = 2


class Checkpoints:
    """The checkpoints of one run folder, saved in the background; the newest two are kept."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()  # waits for a save under way, and raises what went wrong with it

    def newest(self) -> int | None:
        """The step of the newest checkpoint; None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, tree: PyTree) -> None:
        """Saves `tree` as the checkpoint of `step`."""
        self._manager.save(step, args=ocp.args.StandardSave(tree))

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The tree saved at `step`, with the structure, shapes and dtypes of `like` (arrays or abstract)."""
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
        return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
