"""The training loop, one for all models. Of a model it uses `init`, the phases and the sampler."""

import contextlib
import dataclasses
import math
import operator
import re
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.data import pipeline
from jaxgen.errors import Stopped, UserError
from jaxgen.model import Model, Phase
from jaxgen.signals import heeded
from jaxgen.training import engine, folder, processes
from jaxgen.training.checkpoints import Checkpoints, Keep
from jaxgen.training.deterministic import check_deterministic
from jaxgen.training.display import Progress, Worries
from jaxgen.training.feed import Feed
from jaxgen.training.folder import Restored, Run, environment_changes
from jaxgen.training.lock import locked
from jaxgen.training.plan import Plan, make_plan
from jaxgen.training.record import Record, grid_condition, means, pictured
from jaxgen.training.rows import lacks, lost_rows, read_rows
from jaxgen.training.settings import Settings
from jaxgen.training.symptoms import symptoms
from jaxgen.training.tracking import check_wandb

FAILED = 1000
"""Sentinel reported by a process that failed to write; larger than any signal number."""


class Stretch(NamedTuple):
    """Range of steps of a phase in a run: its first step, and the step it ends before."""

    phase: Phase
    start: int
    end: int


def stretches(model: Model, settings: Settings, num_examples: int) -> list[Stretch]:
    """Returns the phases in order, cut off at the run's number of steps."""
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
    """Number of steps that a run takes: its settings', or fewer if its phases end before."""
    return stretches(plan.model, plan.settings, plan.dataset.spec.num_examples)[-1].end


def metric_names(plan: Plan) -> list[str]:
    """Names of the metrics that the model's steps return, found by tracing without computing."""
    batch = engine.blank_batch(plan.dataset.spec, plan.model.needs, plan.settings.batch_size)
    key = jax.random.key(0)
    state = jax.eval_shape(plan.model.init, key)
    told = [jax.eval_shape(phase.step, key, state, batch)[1] for phase in plan.model.phases]
    return list(dict.fromkeys(name for metrics in told for name in metrics))


def train(
    model: str,
    config: Any = None,
    settings: Settings | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    minutes: float | None = None,
    wandb: str | None = None,
    deterministic: bool = False,
    progress: bool = True,
    name: str = "",
) -> Run:
    """Trains a model for every seed of `settings`, in one program, into a run folder.

    Args:
        model: a name of `jaxgen models`, or the path of a Python file with `Config` and `make`.
        config: the model's Config, or a dict of some of its fields; its defaults if not given.
        settings: dataset, seeds, steps and the like.
        out: the run folder; runs/MODEL-DATASET if not given. It must not exist unless `resume`.
        resume: continue from the newest checkpoint of `out`; everything but `settings.steps` must be
            unchanged. Before the first checkpoint it starts at step 0; a finished run is opened.
        minutes: minutes of training, without compilation, after which the run ends, unless `settings.steps` are done
            before. config.json then holds the steps taken, so that the run can be repeated without `minutes`.
        wandb: the Weights & Biases project that receives the metrics and sample grids of every seed, or None.
        deterministic: ensure that the same call gives the same bits, and first verify it by two short runs. On a GPU
            XLA_FLAGS must hold what `jaxgen train --deterministic` puts there, before JAX starts.
        progress: show a progress bar on stderr.
        name: the beginning of every line about the run on stderr, such as an arm of a comparison.

    Returns:
        The finished run. The same call without `minutes` gives the same bits with the same versions on the same kind
        of device; one stopped and resumed ends with the same bits as one that was not.

    Raises:
        UserError: an argument is wrong, before anything is compiled or written; another process trains in `out`.
        Stopped: a signal came, such as SIGTERM or Ctrl-C; training went on to the next row and saved a checkpoint.
    """
    pipeline.check_not_a_worker()
    began = time.monotonic()
    settings = settings or Settings()
    plan = make_plan(model, config, settings, progress=progress)
    data_name = re.sub(r"[^\w.-]+", "-", settings.shown)
    out = Path(out) if out else Path("runs") / f"{Path(model).stem}-{data_name}"
    folder.check_name(out)
    if minutes is not None and not 0 < minutes < math.inf:
        raise UserError(f"minutes must be above 0 and finite, not {minutes}")
    if wandb is not None:
        check_wandb(wandb)
    if settings.keep_best and settings.keep_best[1] not in (names := metric_names(plan)):
        raise UserError(f"keep_best: {model} has no metric {settings.keep_best[1]}; it has {', '.join(names)}")
    there = resume and (out / folder.CONFIG).exists()
    with processes.peer_failures(), contextlib.ExitStack() as held:
        with processes.together():
            if processes.is_first():
                if not there:
                    folder.create(out, plan)
                held.enter_context(locked(out))
        restored, spent, lines = None, 0.0, []
        if there:
            with processes.together():
                folder.check_resume(out, plan)
                restored, damaged = folder.newest_whole(out, plan)
                result, unread = folder.result_there(out)
                rows = read_rows(out / folder.METRICS)
                changes = environment_changes(out, plan)
            step = restored.step if restored else 0
            newest = processes.agreed(step)
            with processes.together():
                if step < newest:
                    raise UserError(f"this process cannot read {out / folder.CHECKPOINTS / str(newest)}, as others can")
            with processes.together():
                lines = [*unread, *folder.set_aside(out, damaged)] if processes.is_first() else []
            if processes.agreed(result is None):  # all processes must take the same branch
                result = None
            if result:
                ended = result["step"] == run_length(plan) or (minutes is not None and result.get("minutes") == minutes)
                if restored and step == result["step"] and ended:
                    run = Run(out, _of_steps(plan, step), restored.state, step, restored.diverged)
                    if run.named_digests() == result["digests"]:
                        return run
                    lines.append(f"{out / folder.RESULT} has other digests than checkpoint {step}; it is written anew")
                spent = result["seconds"]  # the result is of fewer steps, or its checkpoint is damaged
            lines.append(f"resuming {out} at step {step}")
            if lost := lost_rows(rows, plan.settings, step, restored.diverged if restored else {}):
                lines.append(f"{out / folder.METRICS} {lacks(lost)}; they are not written again")
            if changes:
                words = "begun in another environment, so the bits may differ from an uninterrupted run's"
                lines.append(f"{words} ({'; '.join(changes.values())})")
            with processes.together():
                if processes.is_first():
                    _begin_again(out, plan, bool(changes))
        elif resume:
            lines = [f"nothing to resume in {out}: starting at step 0"]
        try:
            with Progress(plan, shown=progress, told=processes.is_first(), name=name) as bar:
                for line in [*plan.told(), *lines]:
                    bar.say(line)
                if deterministic:
                    bar.say(check_deterministic(plan, _short_run))
                run = _train(plan, out, restored, bar, minutes, wandb)
        except BaseException:
            if processes.is_first() and not there and not folder.begun(out):  # nothing was trained
                shutil.rmtree(out)
            raise
        result = {
            "step": run.step,
            "minutes": minutes,
            "seconds": spent + time.monotonic() - began,
            "diverged": {str(seed): at for seed, at in run.diverged.items()},
            "digests": run.named_digests(),
        }
        with processes.together():
            if processes.is_first():
                folder.write_json(out / folder.CONFIG, run.plan.described())
                folder.write_json(out / folder.RESULT, result)
    return run


def _begin_again(out: Path, plan: Plan, changed: bool) -> None:
    """Updates the folder of a run that is resumed: its environment if `changed`, its config, no result."""
    if changed:
        before = folder.read_json(out / folder.ENVIRONMENT)
        folder.write_json(out / folder.ENVIRONMENT, plan.environment() | {"before": before})
    folder.write_json(out / folder.CONFIG, plan.described())
    (out / folder.RESULT).unlink(missing_ok=True)


def _short_run(plan: Plan, out: Path) -> Run:
    try:
        with Progress(plan, shown=False, told=False) as bar:
            return _train(plan, out, None, bar, None, None)
    except Stopped as stopped:
        raise Stopped("stopped before its first step", stopped.asked) from None


def _of_steps(plan: Plan, step: int) -> Plan:
    """Returns the plan of the run that ends at this step."""
    return plan._replace(settings=dataclasses.replace(plan.settings, steps=min(step, plan.settings.steps)))


class Clock:
    """Seconds of training, over all resumptions of a run. The first chunk of each compiles and is not counted."""

    def __init__(self, before: float):
        self.seconds, self._last, self._chunks = before, 0.0, 0

    def chunk(self) -> None:
        """Adds the time of the chunk that is done; called when the next one has been dispatched."""
        now = self.now()
        if self._chunks > 1:
            self.seconds += now - self._last
        self._last, self._chunks = now, self._chunks + 1

    def now(self) -> float:
        """Current time in seconds, from an arbitrary start."""
        return time.monotonic()


def _train(
    plan: Plan, out: Path, restored: Restored | None, bar: Progress, minutes: float | None, wandb: str | None
) -> Run:
    model, settings, dataset = plan.model, plan.settings, plan.dataset
    num_examples = dataset.spec.num_examples
    devices = engine.mesh(len(settings.seeds), settings.batch_size)
    keys = engine.all_streams(settings.seeds)
    state, start = restored[:2] if restored else (engine.initial_state(model, keys.init), 0)
    alive = engine.placed(devices, state.step == start)
    state = engine.placed(devices, state)
    train_keys = engine.placed(devices, keys.train)
    feed = Feed(dataset, model.needs, settings, devices)
    parts = stretches(model, settings, num_examples)
    end = parts[-1].end
    draw = model.sampler and engine.sample_parts(model)
    grid, columns, condition = grid_condition(model, dataset)
    condition = engine.alike(condition, len(settings.seeds))
    how, belongs = engine.axis(settings.seeds_axis), folder.belonging(plan.described(), dataset.fingerprint)
    keep = Keep(settings.keep_checkpoints, settings.keep_best and settings.keep_best[0])
    scores = {}  # by seed, the newest rows' metric by which the best checkpoint is chosen
    # Results of a chunk still to be fetched and written, while the device runs the next chunk.
    later: list[Callable[[], None]] = []
    worries, writes, leaving = Worries(), processes.is_first(), 0
    failures: list[Exception] = []

    def batch_of(step):
        return next((part.phase, part.start, step) for part in parts if part.start <= step < part.end)

    def divergence(seed, at):
        return {"step": at, "batch": feed.indices(*batch_of(at), settings.seeds.index(seed))}

    diverged = {seed: divergence(seed, at) for seed, at in (restored.diverged if restored else {}).items()}
    if restored and restored.content["order"] != feed.order(*batch_of(start - 1)):
        raise UserError(f"the order of dataset {dataset.name} has changed since step {start} of {out}")

    def write():
        while later:
            later.pop(0)()

    def keep_in_files(action):
        """Runs `action` in the first process only; with several, its failure is reported to all at the next row."""
        try:
            if writes:
                action()
        except (UserError, OSError) as error:
            if jax.process_count() == 1:
                raise
            failures.append(error)

    def write_metrics(begun, step, phase, sums, steps):
        sums, steps = jax.device_get(processes.allgathered((sums, steps)))
        rows = means(settings.seeds, sums, steps)
        keep_in_files(lambda: record.metrics(step, phase, rows))
        bar.advance(step, rows)
        if settings.keep_best:
            scores.update({str(seed): None for seed in settings.seeds})
            scores.update({str(seed): row.get(settings.keep_best[1]) for seed, row in rows.items()})
        for i, seed in enumerate(settings.seeds):
            at = begun + int(steps[i])
            if at < step and seed not in diverged:
                diverged[seed] = divergence(seed, at)
                keep_in_files(lambda: record.diverged(diverged))
                words = "a metric, or a number of its state, was not finite; frozen before it"
                bar.say(f"seed {seed} diverged at step {at}: {words}. Its batch is recorded in {folder.DIVERGED}")
        for worry, seeds in worries.heard({seed: symptoms(row) for seed, row in rows.items()}).items():
            bar.say(f"step {step}, seed{'s'[: len(seeds) > 1]} {' '.join(map(str, seeds))}: {worry}")

    def write_samples(step, parts):
        images = pictured(dataset, engine.gathered(parts))
        keep_in_files(lambda: record.samples(step, images, columns))

    def show(step):
        if draw:
            held = processes.allgathered(state)
            if writes:
                later.append(partial(write_samples, step, list(draw(keys.sample, held, grid, condition))))

    def save(step, state):
        regular = step % settings.checkpoint_every == 0  # a signal's checkpoint is never best: a whole run lacks it
        order = feed.order(*batch_of(step - 1))
        chosen_by = dict(scores) if regular else {}
        content = {"belongs": belongs, "seconds": clock.seconds, "order": order, "scores": chosen_by}
        keep_in_files(lambda: checkpoints.save(step, state._asdict(), content))

    with heeded(bar.say) as asked, contextlib.ExitStack() as open_files:
        with processes.together():
            if writes:
                record = open_files.enter_context(Record(out, plan.described(), start, wandb))
                checkpoints = open_files.enter_context(Checkpoints(out / folder.CHECKPOINTS, keep))
        clock = Clock(restored.content["seconds"] if restored else 0.0)
        if minutes is not None and start and processes.agreed(clock.seconds >= 60 * minutes):
            end = start
        if start == 0:
            show(0)
        if devices.size < jax.device_count():
            count = len(settings.seeds)
            words = f"{count} seed{'s'[: count > 1]} and batches of {settings.batch_size} divide evenly no further"
            bar.say(f"on {devices.size} of {jax.device_count()} devices: {words}")
        if settings.batch_size > num_examples and any(part.phase.passes is None for part in parts):
            bar.say(f"batches of {settings.batch_size} repeat examples: there are {num_examples} to train on")
        if len(parts) < len(model.phases):
            bar.say(f"{settings.steps} steps end before phase {model.phases[len(parts)].name} begins")
        bar.start(start, end, lambda: 60 * (math.inf if minutes is None else minutes) - clock.seconds)
        for index, (phase, first, last) in enumerate(parts):
            if last <= start or end <= max(first, start):
                continue
            if start <= first:
                batches = partial(pipeline.batches, feed.entries, settings.batch_size)
                state = engine.entered(phase, index, keys.init, processes.allgathered(state), batches)
                state = engine.placed(devices, state)
            program = engine.chunk_program(phase, how, settings.precision, devices, settings.own_order)
            begun = step = max(first, start)
            summed = None
            with feed.phase(phase, first, step, last) as take:
                while step < last:
                    stop = _next_stop(step, last, settings, feed.most)
                    state, alive, *sums = program(train_keys, state, alive, *take(step, stop), np.int32(stop - step))
                    if step == max(first, start):
                        bar.compiled(step)
                    summed = sums if summed is None else jax.tree.map(operator.add, summed, sums)
                    write()
                    clock.chunk()
                    step = stop
                    if minutes is not None and processes.agreed(clock.seconds >= 60 * minutes):
                        end = last = step
                    if step == last or _due(step, settings):
                        later.append(partial(write_metrics, begun, step, phase.name, *summed))
                        begun, summed = step, None
                    if step % settings.sample_every == 0 or step == end:
                        show(step)
                    leaving = summed is None and processes.agreed(FAILED if failures else asked() or 0)
                    if leaving == FAILED:
                        raise failures[0] if failures else processes.other_failed()
                    if step % settings.checkpoint_every == 0 or step == end or leaving:
                        write()
                        save(step, processes.allgathered(state))
                    if leaving:
                        end = last = step
        with processes.together():
            open_files.close()  # finishes pending writes
            if failures:
                raise failures[0]
        leaving = leaving or processes.agreed(asked() or 0)
    state = processes.allgathered(state)
    stopped = {seed: int(at) for seed, at in zip(settings.seeds, state.step, strict=True) if at < end}
    if leaving:
        raise Stopped(f"stopped at step {end} of {parts[-1].end}, which is saved", signal.Signals(leaving))
    if end < parts[-1].end:
        bar.say(f"ended at step {end}, after {minutes:g} minutes of training")
        plan = _of_steps(plan, end)
    return Run(out, plan, state, end, stopped)


def _next_stop(step: int, last: int, settings: Settings, most: int) -> int:
    """Next step at which something is written, at most `most` steps later."""
    return min(last, step + most, *(step - step % n + n for n in _intervals(settings)))


def _due(step: int, settings: Settings) -> bool:
    """True if something is written at this step."""
    return any(step % n == 0 for n in _intervals(settings))


def _intervals(settings: Settings) -> tuple[int, ...]:
    return settings.log_every, settings.sample_every, settings.checkpoint_every
