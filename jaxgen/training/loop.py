"""The training loop, one for all models. It knows `init`, the phases' `step`, and `sample`."""

import dataclasses
import math
import operator
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.model import Model, Phase
from jaxgen.training import run as folder
from jaxgen.training import seeds as seed_axis
from jaxgen.training.checkpoints import Checkpoints
from jaxgen.training.feed import Feed
from jaxgen.training.progress import Progress
from jaxgen.training.record import Record, grid_condition
from jaxgen.training.run import Plan, Run
from jaxgen.training.settings import Settings
from jaxgen.training.tracking import check_wandb


class Stretch(NamedTuple):
    """A phase's place in the run: its first step, and the step it ends before."""

    phase: Phase
    start: int
    end: int


def stretches(model: Model, settings: Settings, num_examples: int) -> list[Stretch]:
    """The phases in order, cut off at the run's number of steps."""
    placed, start = [], 0
    for phase in model.phases:
        if phase.passes is not None:
            length = math.ceil(phase.passes * num_examples / settings.batch_size)
        else:
            length = settings.steps if phase.steps is None else phase.steps
        end = min(start + length, settings.steps)
        if start < end:
            placed.append(Stretch(phase, start, end))
        start = end
    return placed


def run_length(plan: Plan) -> int:
    """The number of steps that a run takes: its settings', or fewer where its phases end before."""
    return stretches(plan.model, plan.settings, plan.dataset.spec.num_examples)[-1].end


def train(
    model: str,
    config: Any = None,
    settings: Settings | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    minutes: float | None = None,
    wandb: str | None = None,
    progress: bool = True,
) -> Run:
    """Trains a model for every seed of `settings`, in one program, into a run folder.

    Args:
        model: a name of `jaxgen models`, or the path of a Python file with `Config` and `make`.
        config: the model's Config, or a dict of some of its fields; its defaults if not given.
        settings: dataset, seeds, steps and the like.
        out: the run folder; runs/MODEL-DATASET if not given. It must not exist unless `resume`.
        resume: go on from the newest checkpoint of `out`; everything but `settings.steps` must be
            as it was. Before the first checkpoint it starts at step 0; a finished run is opened.
        minutes: of training, without compilation, after which the run ends, if `settings.steps` are not done before.
            config.json then holds the steps taken, so that without `minutes` the same run can be made again.
        wandb: a project of Weights & Biases that is told the metrics and sample grids of every seed, or None.
        progress: show a progress bar on stderr.

    Returns:
        The finished run. The same call without `minutes` gives the same bits with the same versions on the same kind
        of device; one stopped and resumed ends with the same bits as one that was not.

    Raises:
        UserError: a mistake in what was asked, before anything is compiled or written.
    """
    began = time.monotonic()
    settings = settings or Settings()
    plan = folder.plan(model, config, settings, progress=progress)
    data_name = re.sub(r"[^\w.-]+", "-", settings.dataset)
    out = Path(out) if out else Path("runs") / f"{Path(model).stem}-{data_name}"
    if minutes is not None and not 0 < minutes < math.inf:
        raise UserError(f"minutes must be above 0 and finite, not {minutes}")
    if wandb is not None:
        check_wandb(wandb)
    restored, spent = None, 0.0
    lines, created = [], False
    if resume and (out / folder.CONFIG).exists():
        folder.check_resume(out, plan)
        restored = folder.restore(out, plan)
        changes = folder.environment_changes(out, plan)
        if restored and (restored[1] == run_length(plan) or _timed_out(out, minutes)):
            return Run(out, _of_steps(plan, restored[1]), *restored)
        lines = [f"resuming {out} at step {restored[1] if restored else 0}"]
        if changes:
            words = "; ".join(changes.values())
            lines.append(f"begun in another environment, so the bits may differ from an uninterrupted run's ({words})")
            before = folder.read_json(out / folder.ENVIRONMENT)
            folder.write_json(out / folder.ENVIRONMENT, plan.environment() | {"before": before})
        folder.write_json(out / folder.CONFIG, plan.described())
        if (out / folder.RESULT).exists():  # of fewer steps
            spent = folder.read_json(out / folder.RESULT)["seconds"]
            (out / folder.RESULT).unlink()
    else:
        folder.create(out, plan)
        created = True
        if resume:
            lines = [f"nothing to resume in {out}: starting at step 0"]
    try:
        with Progress(plan, shown=progress) as bar:
            for line in lines:
                bar.say(line)
            run = _train(plan, out, restored, bar, minutes, wandb)
    except BaseException:
        if created and not folder.begun(out):  # it could not be trained at all
            shutil.rmtree(out)
        raise
    folder.write_json(out / folder.CONFIG, run.plan.described())
    result = {
        "step": run.step,
        "minutes": minutes,
        "seconds": spent + time.monotonic() - began,
        "diverged": {str(seed): at for seed, at in run.diverged.items()},
        "digests": {str(seed): digest for seed, digest in run.digests().items()},
    }
    folder.write_json(out / folder.RESULT, result)
    return run


def _of_steps(plan: Plan, step: int) -> Plan:
    """The plan of the run that ends at this step."""
    return plan._replace(settings=dataclasses.replace(plan.settings, steps=min(step, plan.settings.steps)))


def _timed_out(out: Path, minutes: float | None) -> bool:
    """Whether the run ended because it had trained for so long."""
    return (
        minutes is not None
        and (out / folder.RESULT).exists()
        and (folder.read_json(out / folder.RESULT).get("minutes") == minutes)
    )


class Clock:
    """Seconds of training, over all processes of a run. The first chunk of each holds its compilation: not counted."""

    def __init__(self, before: float):
        self.seconds, self._last, self._chunks = before, 0.0, 0

    def chunk(self) -> None:
        """One more chunk was dispatched; the one before is done."""
        now = self.now()
        if self._chunks > 1:
            self.seconds += now - self._last
        self._last, self._chunks = now, self._chunks + 1

    def now(self) -> float:
        """Seconds, from some start."""
        return time.monotonic()


def _train(plan: Plan, out: Path, restored, bar: Progress, minutes: float | None, wandb: str | None) -> Run:
    model, settings, dataset = plan.model, plan.settings, plan.dataset
    num_examples = dataset.spec.num_examples
    devices = seed_axis.mesh(len(settings.seeds), settings.batch_size)
    keys = seed_axis.all_streams(settings.seeds)
    blank = seed_axis.blank_batch(dataset.spec, model.needs, settings.batch_size)
    state, start = restored[:2] if restored else (seed_axis.initial_state(model, keys.init, blank), 0)
    state = seed_axis.placed(devices, state)
    alive = seed_axis.placed(devices, state.step == start)
    train_keys = seed_axis.placed(devices, keys.train)
    feed = Feed(dataset, model.needs, settings, devices)
    parts = stretches(model, settings, num_examples)
    end = parts[-1].end
    draw = model.sample and seed_axis.sample_parts(model)
    grid, columns, condition = grid_condition(model, dataset.spec)
    how = seed_axis.axis(settings.seeds_axis)
    # What a chunk leaves to be fetched and written, which is done while the device runs the next one.
    later: list[Callable[[], None]] = []

    def write():
        while later:
            later.pop(0)()

    def write_metrics(step, phase, sums, steps):
        bar.advance(step, record.metrics(step, phase, *jax.device_get((sums, steps))))

    def write_samples(step, parts):
        images = seed_axis.gathered(parts).get("image")
        if images is not None:
            record.samples(step, images, columns)

    def show(step):
        if draw:
            later.append(partial(write_samples, step, list(draw(keys.sample, state, grid, condition))))

    with (
        Record(out, plan.described(), start, wandb) as record,
        Checkpoints(out / folder.CHECKPOINTS, dataset.fingerprint, settings.keep_checkpoints) as checkpoints,
    ):
        clock = Clock(checkpoints.seconds(start) if restored else 0.0)
        if start == 0:
            show(0)
        if devices.size < jax.device_count():
            count = len(settings.seeds)
            words = f"{count} seed{'s'[: count > 1]} and batches of {settings.batch_size} divide evenly no further"
            bar.say(f"on {devices.size} of {jax.device_count()} devices: {words}")
        if settings.batch_size > num_examples and any(part.phase.passes is None for part in parts):
            bar.say(f"batches of {settings.batch_size} repeat examples: there are {num_examples} to train on")
        bar.start(start, end)
        for index, (phase, first, last) in enumerate(parts):
            if last <= start or end <= first:
                continue
            if start <= first:
                batches = partial(pipeline.batches, feed.entries, settings.batch_size)
                state = seed_axis.entered(phase, index, keys.init, state, batches)
                state = seed_axis.placed(devices, state)
            program = seed_axis.chunk_program(phase, how, devices, settings.own_order)
            step, summed = max(first, start), None
            with feed.phase(phase, first, step, last) as take:
                while step < last:
                    stop = _next_stop(step, last, settings, feed.most)
                    state, alive, *sums = program(train_keys, state, alive, *take(step, stop), np.int32(stop - step))
                    summed = sums if summed is None else jax.tree.map(operator.add, summed, sums)
                    write()
                    clock.chunk()
                    step = stop
                    if minutes is not None and clock.seconds >= 60 * minutes:
                        end = last = step
                    if step == last or _due(step, settings):
                        later.append(partial(write_metrics, step, phase.name, *summed))
                        summed = None
                    if step % settings.sample_every == 0 or step == end:
                        show(step)
                    if step % settings.checkpoint_every == 0 or step == end:
                        write()
                        checkpoints.save(step, state._asdict(), clock.seconds)
    stopped = {seed: int(at) for seed, at in zip(settings.seeds, state.step, strict=True) if at < end}
    for seed, at in stopped.items():
        bar.say(f"seed {seed} diverged at step {at}: a metric or parameter was not finite; frozen before it")
    if end < parts[-1].end:
        bar.say(f"ended at step {end}, after {minutes:g} minutes of training")
        plan = _of_steps(plan, end)
    return Run(out, plan, state, end, stopped)


def _next_stop(step: int, last: int, settings: Settings, most: int) -> int:
    """The next step at which something is written, `most` steps on at the latest."""
    return min(last, step + most, *(step - step % n + n for n in _intervals(settings)))


def _due(step: int, settings: Settings) -> bool:
    """Whether something is written at this step."""
    return any(step % n == 0 for n in _intervals(settings))


def _intervals(settings: Settings) -> tuple[int, ...]:
    return settings.log_every, settings.sample_every, settings.checkpoint_every
