"""Runs in forms that other programs read, `jaxgen export`.

An exported folder has

export.json     format, model, step, digests, programs, and the sha256 of every other file
README.md       how its files are used; the model card, if it is for the hub
seed-S/         weights of each training seed (`jaxgen.portable.weights`), and its decoders as ONNX
programs/       samplers and decoders as StableHLO (`jaxgen.portable.programs`)
samples.png     a picture of samples, for the hub
croissant.json  description of the data, for the hub, if they are a user's own

and, beside weights, the files that make it a run again (`jaxgen.portable.run_files`). Every format is read back and
compared to the run before the folder appears.
"""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxgen
from jaxgen import models
from jaxgen.errors import UserError, suggest
from jaxgen.files import expanded, files_in, new_folder
from jaxgen.portable import hub, importing, onnx_files, programs, run_files, weights
from jaxgen.portable.extra import imported
from jaxgen.report.templates import templates
from jaxgen.training import folder, open_run
from jaxgen.training.checkpoints import Checkpoints
from jaxgen.training.folder import Run
from jaxgen.training.plan import file_digest

FORMATS = ("safetensors", "stablehlo", "onnx", "hub")

README = "README.md"


def export(
    run: str | Path,
    formats: Sequence[str] = ("safetensors",),
    *,
    checkpoint: str | int = "newest",
    out: str | Path | None = None,
) -> Path:
    """Writes a run in other forms into a folder, whole or not at all.

    safetensors  the weights of each training seed, and the files with which `import_run` makes the run again
    stablehlo    samplers, and decoders if the model has latents, of 1 and of 64 images, which need JAX but not jaxgen;
                 with safetensors, as a program takes the weights from there
    onnx         decoders of 1 and of 64 latents for each training seed, with its weights
    hub          safetensors, stablehlo if the model can, and a model card as the Hugging Face hub takes it, with
                 scores of the comparison that trained the run or of its evaluation.json

    Args:
        run: the run folder.
        formats: some of these.
        checkpoint: as `open_run` takes it.
        out: the folder; RUN-export if not given.

    Returns:
        The folder.

    Raises:
        UserError: an unknown format, a model that cannot be written in one, a package that is not installed, a folder
            with other content, or a format that differs from the run when it is read back.
    """
    path = Path(run)
    asked = _asked(formats)
    out = expanded(out) if out is not None else _beside(path)
    _check_out(out)
    opened = open_run(path, checkpoint)
    chosen = sorted({*(opened.chosen or (opened.step,))})
    wanted = _wanted(asked, opened)
    if len(chosen) > 1 and "safetensors" in wanted:
        steps = ", ".join(map(str, chosen))
        raise UserError(f"the seeds' best checkpoints, of steps {steps}, are not those of one run: choose a step")
    if "hub" in wanted:
        hub.check(opened, chosen[0])
    seeds = opened.plan.settings.seeds
    states = {seed: weights.of_seed(opened.state, index) for index, seed in enumerate(seeds)}
    with new_folder(out) as made:
        described: dict[str, Any] = {
            "format": importing.FORMAT,
            "jaxgen": jaxgen.__version__,
            "name": path.resolve().name,
            "model": opened.plan.model_name,
            "formats": [name for name in FORMATS if name in wanted],
            "seeds": list(seeds),
            "step": chosen[-1],
            "digests": opened.named_digests(),
            "checkpoint": _checkpoint(path, chosen[-1]),
            "programs": {},
        }
        if "safetensors" in wanted:
            run_files.save(made, opened, chosen[0])
            for seed, state in states.items():
                of_seed = {name: described[name] for name in ("jaxgen", "model", "step")} | {"seed": seed}
                of_seed |= {"config": opened.plan.described()["config"], "digest": described["digests"][str(seed)]}
                weights.save(made / weights.folder_of(seed), state, of_seed)
        if "stablehlo" in wanted:
            described["programs"] = _write_programs(made, opened, states)
        if "onnx" in wanted:
            for seed, state in states.items():
                onnx_files.save(made / weights.folder_of(seed), opened.plan, state, seed)
        usage = _usage(described, opened, out)
        if "hub" in wanted:
            hub.save(made, opened, usage)
        else:
            (made / README).write_text(f"# {described['name']}\n\n{usage}")
        described["files"] = {name: file_digest(made / name) for name in files_in(made)}
        folder.write_json(made / folder.EXPORT, described)
        if "safetensors" in wanted:
            _check_run(made, opened)
    return out


def _asked(formats: Sequence[str]) -> list[str]:
    """Formats as they are listed, with spaces or commas between them."""
    asked = [name for each in formats for name in each.split(",") if name]
    for name in asked:
        if name not in FORMATS:
            raise UserError(f"unknown format {name!r}: {suggest(name, FORMATS)}")
    if not asked:
        raise UserError(f"--to takes at least one of {', '.join(FORMATS)}")
    return asked


def _wanted(asked: Collection[str], run: Run) -> set[str]:
    """Formats that are written for those that were asked for; raises UserError for one that the model cannot have."""
    wanted, plan = {*asked}, run.plan
    if wanted & {"stablehlo", "hub"}:
        wanted.add("safetensors")
    lacking = programs.lacks(plan) if wanted & {"stablehlo", "hub"} else ""
    if "stablehlo" in wanted and lacking:
        raise UserError(f"{plan.model_name} {lacking}, so there is no program of it in stablehlo")
    if "hub" in wanted and not lacking:
        wanted.add("stablehlo")
    if "stablehlo" in wanted:
        imported("flatbuffers")
    if "onnx" in wanted:
        onnx_files.check(plan)
    return wanted


def _beside(run: Path) -> Path:
    run = run if run.name not in ("", "..") else run.resolve()
    return run.with_name(f"{run.name}-export")


def _check_out(out: Path) -> None:
    """Raises UserError for a folder with other content than an export, which is compared when it is made."""
    taken = out.is_dir() and any(out.iterdir()) and not (out / folder.EXPORT).is_file()
    if taken or (out.exists() and not out.is_dir()):
        raise UserError(f"{out} exists with another content; choose another --out")


def _checkpoint(path: Path, step: int) -> dict[str, Any]:
    """Metadata of a checkpoint that an imported run keeps."""
    with Checkpoints(path / folder.CHECKPOINTS) as checkpoints:
        content = checkpoints.content(step)
    return {name: content[name] for name in ("seconds", "order", "scores")}


def _write_programs(made: Path, run: Run, states: dict[int, Any]) -> dict[str, Any]:
    """Writes the programs and compares them to the run, for every seed; returns their descriptions by file."""
    described = {}
    of_seeds = {seed: weights.weights(state) for seed, state in states.items()}
    for program in programs.programs(run.plan):
        content = programs.exported(program, next(iter(of_seeds.values())))
        file = made / program.file
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        for seed in of_seeds:
            own = weights.load(made / weights.folder_of(seed), [weights.MODEL])
            programs.check(file.read_bytes(), program, run.plan, own, seed)
        described[program.file] = programs.described(program, run.plan)
    return described


def _check_run(made: Path, run: Run) -> None:
    """Raises UserError unless the folder gives back the run's model, config and state to the bit."""
    found = importing.read(made)
    for name in ("model", "config"):
        if found.plan.described()[name] != run.plan.described()[name]:
            raise UserError(f"the exported {name} is not read back as the run's")
    for one, other in zip(jax.tree.leaves(found.state), jax.tree.leaves(run.state), strict=True):
        if np.asarray(one).tobytes() != np.asarray(other).tobytes():
            raise UserError("the exported weights are not read back as the run's")


def _usage(described: dict[str, Any], run: Run, out: Path) -> str:
    """The part of the README on how the files are used."""
    template = templates(Path(__file__).parent, html=False).get_template("usage.md")
    plan = run.plan
    return template.render(
        **described,
        folder=shlex.quote(out.resolve().name),
        run=shlex.quote(f"runs/{described['name']}"),
        title=models.MODELS[plan.model_name].title
        if plan.model_name in models.MODELS
        else "A model of the author's own",
        dataset=plan.dataset,
        conditions=plan.model.conditions,
        latents=plan.model.latents,
        platforms=programs.PLATFORMS,
        jax=jax.__version__,
        own_file=plan.model_path.endswith(".py"),
        words=plan.dataset.spec.entries["caption"].shape[0] if "caption" in plan.model.conditions else 0,
        shape=plan.dataset.spec.entries[plan.dataset.spec.subject].shape,
        latent=programs.latents_words(plan),
        decoders=onnx_files.names(described, plan),
    )
