"""Draws the gallery: a sheet of every model, with the commands that made it.

    python -m experiments.gallery
    python -m experiments.gallery --models vae dcgan

A row of `SHEETS` has a model's config, the settings of its run and the picture. The sheets go into docs/gallery/, and
docs/gallery.md is written with every sheet that is there. Runs that exist are not retrained, and a stopped one is
resumed, so the command can be stopped and given again. The models of pictures.py have the same configs as there.

Time: an estimated two hours of processor time, half of it for the Transformers, StackGAN and PixelRNN; not run yet.
Expected: digits in all sheets but four: the classifier's shows the digits that it gets wrong, the mesh VAE's bars,
StackGAN's colored shapes, and that of `dgdn` scenes above the captions that it writes.
"""

import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError, suggest
from jaxgen.models import MODELS
from jaxgen.pictures import sample
from jaxgen.training import Settings, train

from . import pictures

DOCS = pictures.DOCS
RUNS = Path("runs/gallery")
DIGITS = pictures.SETTINGS
SHAPES = {"dataset": "shapes_32", "max_objects": 1, "seeds": (0,), "batch_size": 64}
CAPTIONS = ("a red circle on a black background", "a large blue square on a white background", "a small yellow star")
CODES = {"features": 32, "residual_features": 16, "num_codes": 64, "code_dim": 8, "learning_rate": 2e-3}
CODES |= {"code_steps": 1500, "dropout": 0.3, "prior_learning_rate": 2e-3, "decay_steps": 1500, "dim": 48, "blocks": 2}


class Sheet(NamedTuple):
    """The run of a model that is trained, and the picture that is drawn of it."""

    config: dict[str, Any]
    settings: dict[str, Any]
    picture: dict[str, Any]  # of `sample`


def _steps(config: dict[str, Any]) -> int:
    return config.get("decay_steps", DIGITS["steps"])


SHEETS = {
    name: Sheet(config, DIGITS | {"steps": _steps(config)}, {"num": pictures.COLUMNS * pictures.ROWS})
    for name, config in pictures.CONFIGS.items()
}
SHEETS |= {
    "classifier": Sheet({}, DIGITS, {"kind": "classified", "num": 20}),
    "vqvae": Sheet({**CODES, "halvings": 1}, DIGITS | {"steps": 3000}, {"num": 50}),
    "vqvae2": Sheet({**CODES, "gated_layers": 3}, DIGITS | {"steps": 3000}, {"num": 50}),
    "transgan": Sheet(
        {"latent_dim": 64, "critic_steps": 2, "average_half_life": 100.0}
        | {"generator_learning_rate": 5e-4, "discriminator_learning_rate": 5e-4},
        {**DIGITS, "image_size": None},
        {"num": 50},
    ),
    "meshvae": Sheet(
        {"features": "aligned", "hidden": (512, 256), "deviation": 0.005, "learning_rate": 3e-3, "decay_steps": 2000},
        {"dataset": "bars", "seeds": (0,), "steps": 2000},
        {"num": 20},
    ),
    "dgdn": Sheet(
        {"predicts": "caption", "gradient": "gumbel", "draws": 1, "learning_rate": 3e-3, "deviation": 0.1}
        | {"decay_steps": 1500},
        {**SHAPES, "steps": 1500},
        {"kind": "captioned", "num": 12},
    ),
    "stackgan": Sheet(
        {"stages": "one", "text_steps": 2000, "word_dim": 32, "text_dim": 64, "latent_dim": 32, "condition_dim": 32}
        | {"features": 16, "discriminator_features": 32, "average": 0.99, "loss": "hinge", "normalization": "none"}
        | {"spectral_norm": True, "generator_learning_rate": 4e-4, "discriminator_learning_rate": 8e-4},
        {**SHAPES, "steps": 8000},
        {"num": 24, "caption": CAPTIONS},
    ),
}
"""Map from model to its sheet. A decaying learning rate ends the training."""

HEAD = """# Gallery

A sheet of each model, drawn by the two commands below it. `python -m experiments.gallery` trains what is missing, draws
all sheets and writes this page. The digits are scikit-learn's, and the networks are small: each takes minutes on a CPU.
"""


def options(values: dict[str, Any]) -> list[str]:
    """Options of a command line, of fields by name; None and False are left out."""
    words: list[str] = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def commands(model: str) -> list[str]:
    """The commands that make a model's sheet."""
    config, settings, picture = SHEETS[model]
    run, out = str(RUNS / model), f"docs/gallery/{model}.png"
    return [
        shlex.join(["jaxgen", "train", model, *options(config), *options(settings), "--out", run]),
        shlex.join(["jaxgen", "sample", run, *options(picture), "--out", out]),
    ]


def page(drawn: set[str]) -> str:
    """The gallery's page, with the models of the sheets that are `drawn`."""
    parts = [HEAD]
    for name in MODELS:
        if name in drawn:
            lines = "\n".join(commands(name))
            parts.append(f"## {MODELS[name].title}\n\n![{name}](gallery/{name}.png)\n\n```bash\n{lines}\n```\n")
    missing = [f"`{name}`" for name in MODELS if name not in drawn]
    if missing:
        parts.append(f"Not drawn yet: {', '.join(missing)}.\n")
    return "\n".join(parts)


def sheets() -> set[str]:
    """Models whose sheets are there."""
    return {path.stem for path in (DOCS / "gallery").glob("*.png")}


def draw(models: tuple[str, ...] = tuple(MODELS)) -> None:
    """Draw a sheet of every model into docs/gallery/, and write docs/gallery.md.

    Args:
        models: those drawn, all if not given; existing runs are not retrained
    """
    for name in models:
        if name not in SHEETS:
            raise UserError(f"unknown model {name!r}: {suggest(name, SHEETS)}")
    (DOCS / "gallery").mkdir(parents=True, exist_ok=True)
    for name in models:
        config, settings, picture = SHEETS[name]
        run = train(name, config, Settings(**settings), out=RUNS / name, resume=True)
        print(sample(run.path, **picture, out=DOCS / "gallery" / f"{name}.png"))
        (DOCS / "gallery.md").write_text(page(sheets()))


if __name__ == "__main__":
    try:
        parse(draw, sys.argv[1:], "python -m experiments.gallery")
    except UserError as error:
        sys.exit(fail(str(error)))
