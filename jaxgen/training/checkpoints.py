"""Checkpoints of a run's state, by orbax, each with the sha256 of all its content.

Orbax alone restores a flipped bit as a value; here a checkpoint that was changed is refused as damaged.
"""

import hashlib
import json
import logging
import math
import re
import shutil
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgen.errors import UserError
from jaxgen.model import PyTree

REMOVED = "removed"
"""Discarded checkpoints are first renamed here, so no partly deleted one is ever visible."""


def _is_news(record: logging.LogRecord) -> bool:
    """True if a log record matters: orbax also logs normal events, and errors that it raises as well."""
    words = str(record.msg)
    removes = record.module == "atomicity" and "already exists" in words  # left by a killed process
    raised = record.levelno == logging.ERROR and record.module in ("future", "async_checkpointer", "checkpoint_manager")
    return not (removes or raised or words.startswith(("Given directory is read only", "Metadata file does not exist")))


def _of_orbax(error: BaseException | None) -> bool:
    """True if an error was raised in or through orbax's code."""
    frames = traceback.walk_tb(error.__traceback__) if error else ()
    return any("orbax" in frame.f_code.co_filename for frame, _ in frames)


def _is_ours(record: logging.LogRecord) -> bool:
    """True unless a log record is an error of a read that orbax abandoned when another one failed."""
    return not (record.exc_info and _of_orbax(record.exc_info[1]))


@cache
def _quiet_orbax() -> None:
    """Keeps orbax's noise from stderr where it raises the same error; applied once, when a folder is first opened.

    The noise is log records that are no news, coroutines of reads and writes whose loop orbax closed when another one
    failed, and threads that a failed save ended.
    """
    unraisable_before, thread_before = sys.unraisablehook, threading.excepthook

    def unraisable(left: Any) -> None:
        coroutine = getattr(left.object, "cr_code", None)
        of_orbax = coroutine is not None and "orbax" in coroutine.co_filename
        if not of_orbax and str(left.exc_value) != "Event loop is closed":
            unraisable_before(left)

    def in_thread(ended: Any) -> None:
        if not _of_orbax(ended.exc_value):
            thread_before(ended)

    logging.getLogger("absl").addFilter(_is_news)
    logging.getLogger("asyncio").addFilter(_is_ours)
    sys.unraisablehook, threading.excepthook = unraisable, in_thread


class DamagedError(UserError):
    """Raised for a checkpoint (a folder) that does not hold what was written."""

    def __init__(self, checkpoint: Path, why: str):
        super().__init__(f"{checkpoint} is damaged: {why}")
        self.checkpoint = checkpoint


class Keep(NamedTuple):
    """Policy of which checkpoints to keep when another is saved."""

    newest: int | None = None  # number of newest ones; None keeps all
    best: str | None = None  # and each seed's one with the "lowest" or "highest" score


def best_steps(scores: Mapping[int, Mapping[str, float | None]], best: str) -> dict[str, int]:
    """Map from seed to the step of its best score, the earliest of equals; None and non-finite scores never count.

    scores: map from step to scores by seed. best: "lowest" or "highest". Seeds with no finite score are left out.
    """
    sign = {"lowest": 1, "highest": -1}[best]
    found: dict[str, tuple[float, int]] = {}
    for step, row in sorted(scores.items()):
        for seed, score in row.items():
            if score is not None and math.isfinite(score):
                found[seed] = min(found.get(seed, (math.inf, 0)), (sign * score, step))
    return {seed: step for seed, (_, step) in found.items()}


class Checkpoints:
    """The checkpoints of one run folder, saved in the background; read-only if `keep` is None.

    The content of each is JSON metadata: `step`; `belongs`, the values in which the reading run must agree, by name;
    `seconds` of training until then; `order`, a hash of the data's order; `scores` by seed, None if there is none.
    """

    def __init__(self, folder: Path, keep: Keep | None = None):
        _quiet_orbax()
        self._folder, self._keep, self._writes = folder, keep or Keep(), keep is not None
        own = jax.process_index()  # with several processes each reads for itself, and one writes
        alone = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
        )
        if not self._writes:
            how = {"read_only": True, "save_interval_steps": 0}
        else:
            how = {"preservation_policy": self, "todelete_subdir": REMOVED}
            folder.mkdir(exist_ok=True)
            self._sweep()  # leftovers of a killed process
        options = ocp.CheckpointManagerOptions(create=False, multiprocessing_options=alone, **how)
        handlers = {"state": ocp.StandardCheckpointHandler(), "data": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=handlers)
        self._scores = {}
        if self._keep.best:
            for step in self.steps():
                try:
                    self._scores[step] = self.content(step).get("scores", {})
                except DamagedError:
                    continue

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self._manager.close()  # waits for a pending save and raises its error
            if self._writes:
                self._sweep()
        except Exception as error:
            if kind is None:
                raise self._unsaved(error) from error

    def _sweep(self) -> None:
        shutil.rmtree(self._folder / REMOVED, ignore_errors=True)

    def _unsaved(self, error: Exception) -> UserError:
        cause = re.search(r": ([^:]+) \[os_", str(error))  # the operating system's error within tensorstore's
        why = cause[1] if cause else _first_line(error)
        return UserError(f"cannot save a checkpoint in {self._folder}: {why}. Those before it are kept")

    def _damaged(self, step: int, why: str) -> DamagedError:
        return DamagedError(self._folder / str(step), why)

    def steps(self) -> list[int]:
        """Steps of all checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Tells orbax which of its checkpoints, oldest first, to keep; a method of its preservation policies."""
        steps, newest = [each.step for each in checkpoints], self._keep.newest
        kept = set(steps if newest is None else steps[-newest:])
        if self._keep.best:
            there = {step: self._scores[step] for step in steps if step in self._scores}
            kept |= set(best_steps(there, self._keep.best).values()) | {step for step in steps if step not in there}
        return [step in kept for step in steps]

    def save(self, step: int, tree: PyTree, content: Mapping[str, Any]) -> None:
        """Saves `tree`, of arrays, in the background as the checkpoint of `step`, which must not exist yet.

        Raises:
            UserError: this checkpoint, or the one before it, which was still being written, cannot be saved.
        """
        tree = jax.tree.map(np.array, tree)  # copied: the next step takes the state's memory
        leaves = {name: _described(leaf) | {"sha256": _sha256(leaf)} for name, leaf in named(tree).items()}
        content = {**content, "step": step, "leaves": leaves}
        self._scores[step] = content.get("scores", {})  # unknown for a damaged checkpoint, which is never deleted
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(tree),
            data=ocp.args.JsonSave({"content": content, "sha256": _sha256_of_json(content)}),
        )
        try:
            self._manager.wait_until_finished()
            self._sweep()
            self._manager.save(step, args=args)
        except Exception as error:
            raise self._unsaved(error) from error

    def content(self, step: int) -> dict[str, Any]:
        """Content of the checkpoint of `step`, with the description of its `leaves`; raises DamagedError."""
        try:
            data = self._manager.restore(step, args=ocp.args.Composite(data=ocp.args.JsonRestore())).data
            content, expected = data["content"], data["sha256"]
        except Exception as error:  # damage can raise any error in the reader
            raise self._damaged(step, _first_line(error)) from error
        if _sha256_of_json(content) != expected:
            raise self._damaged(step, "its data file was changed since it was written (sha256)")
        if content.get("step", step) != step:
            raise self._damaged(step, f"it was written as the checkpoint of step {content['step']}")
        return content

    def verify(self, step: int) -> dict[str, Any]:
        """Content of the checkpoint of `step`, after reading and comparing all its arrays; raises DamagedError."""
        content = self.content(step)
        self._leaves(step, content["leaves"])
        return content

    def _leaves(self, step: int, described: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Map from name to array saved at `step`; raises DamagedError if they are not as described."""
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        try:
            saved = self._manager.item_metadata(step).state
            like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), saved)
            args = ocp.args.Composite(state=ocp.args.StandardRestore(like))
            leaves = named(self._manager.restore(step, args=args).state)
        except Exception as error:
            raise self._damaged(step, _first_line(error)) from error
        if leaves.keys() != described.keys():
            raise self._damaged(step, f"it lacks {', '.join(sorted(described.keys() ^ leaves.keys())[:3])}")
        for name, leaf in leaves.items():
            if _described(leaf) | {"sha256": _sha256(leaf)} != described[name]:
                raise self._damaged(step, f"{name} is not as it was written (sha256)")
        return leaves

    def restore(self, step: int, like: PyTree, belongs: Mapping[str, Any]) -> tuple[PyTree, dict[str, Any]]:
        """Returns the tree saved at `step`, with the structure of `like` (of arrays, or abstract), and the content.

        Raises:
            DamagedError: it is not what was written.
            UserError: it belongs to another run, or to a model with other parameters.
        """
        where = self._folder / str(step)
        content = self.content(step)
        if differing := differences(content["belongs"], belongs):
            raise UserError(f"{where} was trained with another {differing[0]}")
        leaves = self._leaves(step, content["leaves"])
        wanted = named(like)
        for name in sorted(leaves.keys() ^ wanted.keys()):
            raise UserError(f"{where} and the model differ: {name} is only in the {_one_of(name in leaves)}")
        for name, leaf in wanted.items():
            old, new = _described(leaves[name]), _described(leaf)
            if old != new:
                raise UserError(f"{where} and the model differ in {name}: {_words(old)} there, {_words(new)} here")
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in wanted]), content


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences of a checkpoint's `belongs` from the run's; only fields present in both are compared."""
    names = sorted(before.keys() & now.keys())
    return [f"{name}: {before[name]!r}, not {now[name]!r}" for name in names if before[name] != now[name]]


def _one_of(saved: bool) -> str:
    return "checkpoint" if saved else "model"


def _words(described: dict[str, Any]) -> str:
    return f"{described['dtype']} {described['shape']}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def named(tree: PyTree) -> dict[str, Any]:
    """Map from name to leaf of a tree, in the tree's order.

    Names are the same for a tree's own containers and for the dicts and lists that orbax restores.
    """

    def name(key: Any) -> str:
        return str(next(getattr(key, part) for part in ("key", "name", "idx") if hasattr(key, part)))

    return {"/".join(map(name, path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _described(leaf: Any) -> dict[str, Any]:
    return {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}


def _sha256(leaf: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)).hexdigest()


def _sha256_of_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
