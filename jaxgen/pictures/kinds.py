"""Kinds of pictures of `jaxgen sample`: each is a function of (run, options), and a row of the table KINDS."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy
from PIL import Image

from jaxgen.data import Dataset
from jaxgen.deformation import aligned
from jaxgen.drawing import (
    PADDING,
    TWO_SIDES,
    captioned,
    enlarged,
    image_grid,
    labeled,
    legible_scale,
    mesh_images,
    spread,
    stacked,
)
from jaxgen.errors import UserError
from jaxgen.evaluation.networks import extractors
from jaxgen.evaluation.rejection import rejecting_sampler
from jaxgen.metrics.captions import DATASETS
from jaxgen.metrics.sentences import scenes, true_of
from jaxgen.model import SUBJECTS, Array, Condition
from jaxgen.pictures import latents
from jaxgen.provenance import latent_marks
from jaxgen.training import draws, engine
from jaxgen.training.folder import Run
from jaxgen.training.record import grid_condition, grid_file, grid_steps, pictured

ROWS, STEPS, IMAGES, SIDE, CLASSIFIED = 8, 9, 32, 20, 16
"""Default numbers: of paths, dimensions or images of a class; images along a path; reconstructed images; rows and
columns of a plane; images that are classified correctly, and as many wrongly."""

MESHES, MESH_SIDE = 8, 128
"""Default number of reconstructed meshes, and pixels per side of a view of a mesh."""

ACROSS, LABELED_SIDE = 8, 56
"""Images with words below: number per row, and minimum height in pixels."""

WRITTEN, LETTERS = 4, 28
"""Images above written captions: number per row, and letters per line."""

BEYOND = 2.0
"""Distance from 0 up to which a continuous code is moved, as in InfoGAN's figures."""

ON_PATH, IN_TRAINING, LAST = 100, 250, 2000
"""Milliseconds per frame of an animation: on a path, in training, and of the trained model."""


class Asked(NamedTuple):
    """Options of a picture; None if not given."""

    num: int | None = None
    steps: int | None = None
    dims: tuple[int, ...] | None = None
    around: int | None = None
    groups: tuple[str, ...] | None = None
    rejection: int | None = None
    caption: tuple[str, ...] | None = None
    watermark: Callable[[np.ndarray], np.ndarray] | None = None  # marks images uint8 [num, H, W, C]
    keyed: bytes | None = None  # the key of the signs of the latents


class Drawn(NamedTuple):
    """A picture in all forms in which it can be written."""

    grids: Sequence[np.ndarray] = ()  # one per seed, uint8 [H, W, C]
    arrays: Mapping[str, np.ndarray] | None = None  # of an npz file
    frames: Sequence[np.ndarray] = ()  # of an animation, uint8 [H, W, C], enlarged
    milliseconds: Sequence[int] = ()  # of each frame
    legible: bool = False  # True if the grids already have their final size


def scale_of(drawn: Drawn, dataset: Dataset) -> int:
    """The scale at which a picture's grids are written."""
    shown = dataset.spec.subject == "image" and not drawn.legible
    return legible_scale(dataset.spec.image_shape[0]) if shown else 1


def samples(run: Run, asked: Asked) -> Drawn:
    """Samples; one row per class, or below each caption, if the model is conditional; points all in one picture."""
    dataset, seeds = run.plan.dataset, run.plan.settings.seeds
    num, columns, condition = samples_asked(run, asked)
    batch = drawn_samples(run, asked, _keys(run, "samples"), num, condition)
    if asked.watermark:
        batch["image"] = np.stack([asked.watermark(images) for images in batch["image"]])
    arrays = {name: entry.reshape(-1, *entry.shape[2:]) for name, entry in batch.items()}
    arrays["seed"] = np.repeat(np.asarray(seeds, np.int64), num)
    images = pictured(dataset, batch)
    if "caption" in condition:
        words = asked.caption or dataset.vocabulary.decode(condition["caption"][::columns])
        table, scale = images.reshape(len(seeds), -1, columns, *images.shape[2:]), -(-LABELED_SIDE // images.shape[2])
        rows = [[enlarged(image_grid(row, columns), scale) for row in of_seed] for of_seed in table]
        grids = [stacked([captioned(*each) for each in zip(of_seed, words, strict=True)]) for of_seed in rows]
        return Drawn(grids, arrays, legible=True)
    return Drawn([image_grid(some, columns) for some in images], arrays)


def samples_asked(run: Run, asked: Asked) -> tuple[int, int, Condition]:
    """Returns (number, columns, condition [num]) of the samples of a seed."""
    if not asked.caption:
        return grid_condition(run.plan.model, run.plan.dataset, asked.num)
    columns = max(1, (asked.num or ACROSS * len(asked.caption)) // len(asked.caption))
    caption = draws.caption_tokens(run.plan.dataset, asked.caption).repeat(columns, 0)
    return len(caption), columns, {"caption": caption}


def drawn_samples(run: Run, asked: Asked, keys: Array, num: int, condition: Condition) -> dict[str, np.ndarray]:
    """Draws `num` samples of every seed: entries [seeds, num, ...], those of `condition` [num, ...] among them."""
    model, seeds = run.plan.model, run.plan.settings.seeds
    if asked.keyed is not None:
        codes = latents.drawn(model, keys, run.state, num)
        codes = np.stack([latent_marks.keyed(z, asked.keyed, seed) for z, seed in zip(codes, seeds, strict=True)])
        made = draws.decoded(model, run.state, codes, condition)
        return {**engine.alike(condition, len(seeds)), run.plan.dataset.spec.subject: made}
    times = asked.rejection or 1
    draw = rejecting_sampler(model, extractors(run.plan.dataset)[1] if times > 1 else None, times)
    return draw(keys, run.state, num, engine.alike(condition, len(seeds)))


def interpolation(run: Run, asked: Asked) -> Drawn:
    """Rows of images along paths from one draw of the prior to another.

    Each row of meshes stands above the straight path of the vertices between its ends.
    """
    model, num, shares = run.plan.model, asked.num or ROWS, np.linspace(0, 1, asked.steps or STEPS)
    ends = latents.drawn(model, _keys(run, "interpolation"), run.state, 2 * num)
    path = latents.PATHS[model.latents.prior.kind]
    codes = np.stack([path(each[:num], each[num:], shares) for each in ends])
    examples = np.resize(_spread(run, num), num) if model.conditions else None
    return _along(run, codes, examples, {"share": shares}, straight=run.plan.dataset.spec.subject == "mesh")


def captions(run: Run, asked: Asked) -> Drawn:
    """Rows of images between two captions, each row with its own noise, below both captions."""
    model, dataset, seeds = run.plan.model, run.plan.dataset, run.plan.settings.seeds
    num, shares = asked.num or ROWS, np.linspace(0, 1, asked.steps or STEPS)
    z = latents.drawn(model, _keys(run, "captions"), run.state, num)
    encoded = draws.caption_tokens(dataset, asked.caption)
    every = latents.between(model, run.state, z.repeat(len(shares), axis=1), encoded, np.tile(shares, num))
    table = every.reshape(len(seeds), num, len(shares), *every.shape[2:])
    scale = -(-LABELED_SIDE // table.shape[3])
    words = " -> ".join(asked.caption)
    grids = [captioned(enlarged(grid, scale), words) for grid in _row_grids(table)]
    still = [
        captioned(enlarged(stacked([image_grid(rows[:, step], ACROSS) for rows in table]), scale), words)
        for step in range(len(shares))
    ]
    frames = still + still[-2:0:-1]  # there and back
    arrays = _arrays(run, table, {"z": z, "caption": encoded, "share": shares})
    return Drawn(grids, arrays, frames, [ON_PATH] * len(frames), legible=True)


def traversal(run: Run, asked: Asked) -> Drawn:
    """Rows of images in which one dimension of a code moves over the prior's range while the others are fixed."""
    k_center, k_active = jax.vmap(jax.random.split, out_axes=1)(_keys(run, "traversal"))
    centers = _centers(run, k_center, asked.around)
    dims = _dimensions(run, k_active, asked, centers[0].size)
    values = np.linspace(-1, 1, asked.steps or STEPS) * latents.RANGE[run.plan.model.latents.prior.kind]
    codes = np.stack([latents.traversed(*each, values) for each in zip(centers, dims, strict=True)])
    return _along(run, codes, [asked.around or 0] * dims.shape[1], {"dimension": dims, "value": values})


def _centers(run: Run, keys: Array, around: int | None) -> np.ndarray:
    """Starting code of a traversal, for every seed."""
    model, test = run.plan.model, run.plan.dataset.test
    if around is None:
        drawn = latents.drawn(model, keys, run.state, 1)[:, 0]
        # The mean of either prior is 0. A generator has never seen a code near it, so it gets a draw instead.
        return drawn if model.latents.encode is None else np.zeros_like(drawn)
    if model.latents.encode is None:
        raise UserError(f"{run.plan.model_name} does not encode images: leave --around out")
    _check_range("--around", [around], len(test[run.plan.dataset.spec.subject]))
    return latents.encoded(model, run.state, _examples(run, [around]))[:, 0]


def _dimensions(run: Run, keys: Array, asked: Asked, size: int) -> np.ndarray:
    """Dimensions, of `size`, that a traversal moves: int [seeds, rows]."""
    model = run.plan.model
    if asked.dims is not None:
        _check_range("--dims", asked.dims, size)
        return np.tile(asked.dims, (len(keys), 1))
    num = asked.num or min(ROWS, size)
    if num > size:
        raise UserError(f"--num must be at most {size}, the dimensions of a code, not {num}")
    if model.latents.encode is None:
        return np.tile(np.arange(num), (len(keys), 1))
    codes = latents.encoded(model, run.state, {name: run.plan.dataset.test[name] for name in model.needs})
    return np.stack([latents.active_dimensions(each)[:num] for each in codes])


def arithmetic(run: Run, asked: Asked) -> Drawn:
    """Images of three classes a, b and c, and the decoded a - b + c of their codes.

    A row shows the three images, and the image of their codes' a - b + c. The last row shows the same for the
    classes' mean codes, each decoded.

    Source: Radford, Metz & Chintala 2016 (https://arxiv.org/abs/1511.06434), section 6.3.2 and figure 7.
    """
    model, dataset, num = run.plan.model, run.plan.dataset, asked.num or ROWS
    rows = np.concatenate([_members(dataset, name, num) for name in asked.groups])
    entries = _examples(run, rows)
    codes = latents.encoded(model, run.state, entries)
    codes = codes.reshape(len(codes), 3, num, *codes.shape[2:]).astype(np.float64)
    codes = np.concatenate([codes, codes.mean(2, keepdims=True)], axis=2)
    a, b, c = codes.swapaxes(0, 1)
    codes = np.stack([a, b, c, a - b + c], axis=2)  # [seeds, num + 1, 4, ...]
    table = _decoded_table(run, codes, {})
    table[:, :num, :3] = entries["image"].reshape(3, num, *entries["image"].shape[1:]).swapaxes(0, 1)
    return Drawn(_row_grids(table), _arrays(run, table, {"z": codes.astype(np.float32)}))


def attribute(run: Run, asked: Asked) -> Drawn:
    """Rows of images whose codes move from those of test images of class b along the attribute vector of a against b.

    The vector is the mean code of all test images of a minus that of b; along a row its share in an image's code grows
    from 0 to 1.

    Source: Larsen et al. 2016 (https://arxiv.org/abs/1512.09300), section 4.1.1.
    """
    model, dataset, num = run.plan.model, run.plan.dataset, asked.num or ROWS
    if len(set(asked.groups)) < 2:
        raise UserError(f"--groups must name two classes, not {asked.groups[0]} twice")
    shares = np.linspace(0, 1, asked.steps or STEPS)
    rows = _members(dataset, asked.groups[1], num)
    members = [_members(dataset, name) for name in asked.groups]
    entries = _examples(run, np.concatenate(members))
    codes = latents.encoded(model, run.state, entries).astype(np.float64)
    a, b = np.split(codes, [len(members[0])], axis=1)
    starts = b[:, np.searchsorted(members[1], rows)]
    ends = starts + (a.mean(1) - b.mean(1))[:, None]
    codes = np.stack([latents.linear(*each, shares) for each in zip(starts, ends, strict=True)])
    return _along(run, codes, None, {"share": shares, "example": rows})


def reconstructions(run: Run, asked: Asked) -> Drawn:
    """Test images or meshes, spread over the classes, each above the one decoded from its code.

    Codes of several levels are decoded from the coarsest alone first, then with one more at a time.
    """
    subject = run.plan.dataset.spec.subject
    there = len(run.plan.dataset.test[subject])
    num = asked.num or min(IMAGES if subject == "image" else MESHES, there)
    _check_num(num, there, f"test {subject}s of {run.plan.dataset.name}")
    rows = _spread(run, num)
    entries = _examples(run, rows)
    model = run.plan.model
    levels = model.latents.levels
    parts = [levels[:n] for n in range(1, len(levels))] + [()]
    made = [latents.reconstructed(model, run.state, entries, part) for part in parts]
    real = entries[subject]
    if subject == "mesh":  # in the pose of decoded meshes
        real = aligned(real, run.plan.dataset.spec.reference).astype(np.float32)
    table = np.stack([np.broadcast_to(real, made[0].shape), *made], axis=2)
    cells = _shown(run, table)
    cells = cells.reshape(*cells.shape[:2], -1, *cells.shape[4:])  # an example and what is below it as one image
    columns = int(np.ceil(np.sqrt(table.shape[2] * num)))
    return Drawn([image_grid(images, columns) for images in cells], _arrays(run, table, {"example": rows}))


def completions(run: Run, asked: Asked) -> Drawn:
    """Draws rows of a test image, spread over the classes, and several completions of its upper half.

    A model of bits gets the upper half as bits.
    """
    model, dataset, seeds = run.plan.model, run.plan.dataset, run.plan.settings.seeds
    there, columns = len(dataset.test["image"]), asked.steps or STEPS
    num = asked.num or min(ROWS, there)
    _check_num(num, there, f"test images of {dataset.name}")
    shown = _spread(run, num)
    entries = {name: entry.repeat(columns, axis=0) for name, entry in _examples(run, shown).items()}
    rows = dataset.spec.image_shape[0] // 2
    rows -= rows % model.sampler.rows_at_once
    complete = jax.vmap(
        lambda key, state, batch: model.sampler.complete(
            key, state, batch, rows, {name: batch[name] for name in model.conditions}
        ),
        in_axes=(0, 0, None),
    )
    made = np.asarray(jax.jit(complete)(_keys(run, "completions"), run.state, entries)["image"])
    table = made.reshape(len(seeds), num, columns, *made.shape[2:])
    real = np.broadcast_to(entries["image"][::columns], (len(seeds), num, *made.shape[2:]))
    return Drawn(_row_grids(np.concatenate([real[:, :, None], table], axis=2)), _arrays(run, table, {"example": shown}))


def animation(run: Run, asked: Asked) -> Drawn:
    """The run's sample grids, one frame per sampling step, below the step's number."""
    seeds = run.plan.settings.seeds
    steps = grid_steps(run.path, seeds)
    if not steps:
        raise UserError(f"{run.path} has no sample grids: training writes them, every --sample-every steps")
    pictures = [stacked([_read(grid_file(run.path, seed, step)) for seed in seeds]) for step in steps]
    frames = [captioned(picture, f"step {step:,}") for picture, step in zip(pictures, steps, strict=True)]
    return Drawn(frames=frames, milliseconds=[IN_TRAINING] * (len(frames) - 1) + [LAST])


def manifold(run: Run, asked: Asked) -> Drawn:
    """A plane of images, decoded from codes of two numbers at even steps of the prior's probability.

    Source: Kingma & Welling 2014 (https://arxiv.org/abs/1312.6114), figure 4 and appendix A.
    """
    model, side = run.plan.model, asked.steps or SIDE
    _, _, *shape = latents.drawn(model, _keys(run, "manifold"), run.state, 1).shape
    if math.prod(shape) != 2:
        raise UserError(f"a manifold needs latents of 2 dimensions (--latent-dim 2), not {math.prod(shape)}")
    values = latents.even(model.latents.prior.kind, side)
    plane = np.stack(np.meshgrid(values, values[::-1]), axis=-1)  # the second number grows upwards
    codes = np.tile(plane.reshape(side, side, *shape), (len(run.plan.settings.seeds), *[1] * (2 + len(shape))))
    return _along(run, codes, [0] * side, {"column": values, "row": values[::-1]})


def classified(run: Run, asked: Asked) -> Drawn:
    """Test images classified correctly and wrongly by each seed, over all classes, above true and predicted class."""
    dataset = run.plan.dataset
    names = _class_names(dataset, "classified images stand above their classes")
    label = np.asarray(dataset.test["label"])
    num = asked.num or min(CLASSIFIED, len(label))
    _check_num(num, len(label), f"test images of {dataset.name}")
    entries = _examples(run, np.arange(len(label)))
    logits = latents.logits(run.plan.model, run.state, entries)
    titles, blocks = [], []
    for seed, each in zip(run.plan.settings.seeds, logits, strict=True):
        predicted, probability = each.argmax(-1).astype(np.int32), scipy.special.softmax(each, -1).max(-1)
        for how, chosen in (("rightly", predicted == label), ("wrongly", predicted != label)):
            of_all = {"image": entries["image"], "label": label, "predicted": predicted, "probability": probability}
            found = np.flatnonzero(chosen)
            shown = found[spread(num, len(found), label[found])]
            blocks.append({name: entry[shown] for name, entry in of_all.items()} | {"seed": np.full(len(shown), seed)})
            titles.append(f"seed {seed}: {how} classified, {chosen.sum():,} of {len(label):,}")
    arrays = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    words = [(f"is {names[a]}", f"as {names[b]}") for a, b in zip(arrays["label"], arrays["predicted"], strict=True)]
    scale = -(-LABELED_SIDE // arrays["image"].shape[1])
    cells = labeled(arrays["image"].repeat(scale, axis=1).repeat(scale, axis=2), words)  # of one width
    ends = np.cumsum([len(block["seed"]) for block in blocks])
    grids = [_places(some, num) for some in np.split(cells, ends[:-1])]
    grids = [captioned(grid, title) for grid, title in zip(grids, titles, strict=True)]
    return Drawn([stacked(pair) for pair in zip(grids[::2], grids[1::2], strict=True)], arrays, legible=True)


def written_captions(run: Run, asked: Asked) -> Drawn:
    """Test images, spread over the classes, above the captions that each seed writes of them.

    Of scenes of `shapes` a last line says whether the caption is true.
    """
    dataset, seeds = run.plan.dataset, run.plan.settings.seeds
    there = len(dataset.test["image"])
    num = asked.num or min(CLASSIFIED, there)
    _check_num(num, there, f"test images of {dataset.name}")
    rows = _spread(run, num)
    entries = _examples(run, rows)
    captions = latents.captions(run.plan.model, run.state, entries)
    texts = [text for of_seed in captions for text in dataset.vocabulary.decode(of_seed)]
    lines = [textwrap.wrap(text, LETTERS) for text in texts]
    most = max(1, *map(len, lines))
    lines = [each + [""] * (most - len(each)) for each in lines]
    arrays = {"image": entries["image"], "example": rows, "caption": captions, "seed": np.asarray(seeds, np.int64)}
    if dataset.name in DATASETS:
        true = true_of(scenes(entries["image"]) * len(seeds), texts)
        lines = [[*each, "true" if right else "FALSE"] for each, right in zip(lines, true, strict=True)]
        arrays["true"] = np.reshape(true, captions.shape[:2])
    scale = -(-LABELED_SIDE // entries["image"].shape[1])
    images = entries["image"].repeat(scale, axis=1).repeat(scale, axis=2)
    cells = labeled(np.tile(images, (len(seeds), 1, 1, 1)), lines)  # of one width
    grids = [image_grid(some, WRITTEN) for some in np.split(cells, len(seeds))]
    titled = [captioned(grid, f"seed {seed}") for grid, seed in zip(grids, seeds, strict=True)]
    return Drawn(titled, arrays, legible=True)


def code_blocks(run: Run, asked: Asked) -> Drawn:
    """Blocks of rows, for each seed one per code, which varies along them: the categorical, then the continuous ones.

    Along a row the rest of z stays as drawn; row i of a continuous code has category i. Columns are the
    categories, and as many even steps of a continuous code from -2 to 2, twice the range in which it is drawn.

    Source: Chen et al. 2016 (https://arxiv.org/abs/1606.03657), figure 2.
    """
    model = run.plan.model
    sizes = {part.name: part.size for part in model.latents.prior.parts}
    categories, continuous = sizes["category"], sizes.get("continuous", 0)
    num = asked.num or categories
    z = latents.drawn(model, _keys(run, "codes"), run.state, num)
    category, values = np.eye(categories), np.linspace(-BEYOND, BEYOND, categories)
    first = slice(sizes["noise"], sizes["noise"] + categories)
    z = np.tile(z[:, None, :, None].astype(np.float64), (1, 1 + continuous, 1, categories, 1))
    z[:, 0, :, :, first] = category
    z[:, 1:, :, :, first] = category[np.arange(num) % categories][:, None]
    for i in range(continuous):
        z[:, 1 + i, :, :, first.stop + i] = values
    table = _decoded_table(run, z.reshape(len(z), -1, *z.shape[3:]), {})
    scale = legible_scale(table.shape[3])
    words = ["categorical code", *[f"continuous code {i + 1}, -2 to 2" for i in range(continuous)]]
    grids = []
    for seed, rows in zip(run.plan.settings.seeds, table, strict=True):
        blocks = [enlarged(grid, scale) for grid in _row_grids(np.split(rows, len(words)))]
        titled = zip(blocks, words, strict=True)
        grids.append(stacked([captioned(block, f"seed {seed}: {title}") for block, title in titled]))
    images = table.reshape(*z.shape[:4], *table.shape[3:])
    return Drawn(grids, _arrays(run, images, {"z": z.astype(np.float32), "value": values}), legible=True)


def _places(cells: np.ndarray, num: int) -> np.ndarray:
    """Grid of `num` places or a few more, eight per row; places without a cell are gray."""
    blank = np.full((-(-num // ACROSS) * ACROSS - len(cells), *cells.shape[1:]), PADDING, np.uint8)
    return image_grid(np.concatenate([cells, blank]), ACROSS)


class Kind(NamedTuple):
    """A row of the table of kinds."""

    draw: Callable[[Run, Asked], Drawn]
    stream: int  # of its keys, a late fold of a seed's `sample` stream that no other kind uses
    suffixes: tuple[str, ...]  # of the files that it can be written to, the default first
    needs: tuple[str, ...]  # capabilities of the model, as LACKS in `jaxgen.pictures.sampling` names them
    takes: tuple[str, ...]  # options
    unconditional: bool = False  # True if it is for models without conditions only
    groups: tuple[str, ...] = ()  # names of the classes in --groups, if it is taken
    subjects: tuple[str, ...] = ("image",)  # kinds of examples that it can show
    real: bool = False  # True if it shows examples of the dataset, too


STILL, MOVING, FOLDER = (".png", ".npz"), (".gif", ".webp"), "/"
"""Suffixes of files."""

DECODED = ("image", "mesh")
"""Examples that can be decoded from latents."""

SAMPLED = ("num", "rejection", "caption", "watermark", "keyed")
"""Options of samples."""

CODES = ("decode", "encode", "path")
"""Capabilities of a model needed for moving between codes of images."""

KINDS = {
    "samples": Kind(samples, draws.SAMPLES, (*STILL, FOLDER), ("sample",), SAMPLED, subjects=SUBJECTS),
    "interpolation": Kind(interpolation, 1, STILL + MOVING, ("decode", "path"), ("num", "steps"), subjects=DECODED),
    "traversal": Kind(
        traversal, 2, STILL + MOVING, ("decode", "path"), ("num", "steps", "dims", "around"), subjects=DECODED
    ),
    "arithmetic": Kind(arithmetic, 3, STILL, CODES, ("num", "groups"), True, ("A", "B", "C"), real=True),
    "reconstructions": Kind(reconstructions, 4, STILL, ("decode", "encode"), ("num",), subjects=DECODED, real=True),
    "animation": Kind(animation, 5, MOVING, ("sample",), (), subjects=SUBJECTS),
    "manifold": Kind(manifold, 6, STILL, ("decode", "path"), ("steps",), subjects=DECODED),
    "classified": Kind(classified, 7, STILL, ("classify",), ("num",), real=True),
    "attribute": Kind(attribute, 8, STILL + MOVING, CODES, ("num", "steps", "groups"), True, ("A", "B")),
    "codes": Kind(code_blocks, 9, STILL, ("decode", "codes"), ("num",)),
    "completions": Kind(completions, 10, STILL, ("complete",), ("num", "steps"), real=True),
    "captions": Kind(captions, 11, STILL + MOVING, ("between",), ("num", "steps", "caption")),
    "captioned": Kind(written_captions, 12, STILL, ("write",), ("num",), real=True),
}
"""Map from the names that `--kind` takes to kinds."""


def _keys(run: Run, kind: str) -> Array:
    """One key per seed, of the kind's own stream."""
    return draws.stream_keys(run, KINDS[kind].stream)


def _spread(run: Run, num: int) -> np.ndarray:
    """The rows of test examples to be shown, spread over the classes."""
    test = run.plan.dataset.test
    return spread(num, len(test[run.plan.dataset.spec.subject]), test.get("label"))


def _examples(run: Run, rows) -> dict[str, np.ndarray]:
    """Test examples with all entries that the model reads."""
    names = dict.fromkeys((run.plan.dataset.spec.subject, *run.plan.model.needs))
    return {name: np.asarray(run.plan.dataset.test[name][np.asarray(rows)]) for name in names}


def _along(run: Run, codes: np.ndarray, examples, arrays: dict[str, np.ndarray], straight: bool = False) -> Drawn:
    """Images of codes [seeds, rows, steps, ...]; a row's condition is that of one test example.

    `examples` are the rows' test examples, unused if the model has no conditions. `straight`: whether a row stands
    above the straight path between its ends.
    """
    model, num_steps, test = run.plan.model, codes.shape[2], run.plan.dataset.test
    given = {name: np.asarray(test[name][np.asarray(examples) % len(test["image"])]) for name in model.conditions}
    table = _decoded_table(run, codes, {name: entry.repeat(num_steps, axis=0) for name, entry in given.items()})
    arrays = _arrays(run, table, {"z": codes.astype(np.float32), **given, **arrays})
    if straight:
        arrays["straight"] = np.stack([_straight(rows, arrays["share"]) for rows in table])
        table = np.stack([table, arrays["straight"]], axis=2).reshape(len(table), -1, *table.shape[2:])
    shown = _shown(run, table)
    columns = int(np.ceil(np.sqrt(shown.shape[1])))
    still = [stacked([image_grid(rows[:, step], columns) for rows in shown]) for step in range(num_steps)]
    frames = [enlarged(frame, legible_scale(shown.shape[3])) for frame in still + still[-2:0:-1]]  # there and back
    return Drawn(_row_grids(shown), arrays, frames, [ON_PATH] * len(frames))


def _straight(meshes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Straight paths [rows, steps, V, 3] from the first to the last of each row of meshes, aligned to the first."""
    ends = np.concatenate([aligned(row[-1:], row[0]) for row in meshes])
    return latents.linear(meshes[:, 0], ends, shares).astype(np.float32)


def _shown(run: Run, table: np.ndarray) -> np.ndarray:
    """Images of a table [seeds, rows, columns, ...] of images, or of meshes, which are seen from two sides."""
    spec = run.plan.dataset.spec
    if spec.subject == "image":
        return table
    images = mesh_images(table.reshape(-1, *table.shape[3:]), spec.faces, MESH_SIDE, TWO_SIDES)
    return images.reshape(*table.shape[:3], *images.shape[1:])


def _decoded_table(run: Run, codes: np.ndarray, condition: dict[str, np.ndarray]) -> np.ndarray:
    """Examples of codes [seeds, rows, columns, ...], as `draws.decoded` gives them: [seeds, rows, columns, ...]."""
    flat = codes.reshape(len(codes), -1, *codes.shape[3:])
    images = draws.decoded(run.plan.model, run.state, flat, condition)
    return images.reshape(*codes.shape[:3], *images.shape[2:])


def _row_grids(table: np.ndarray) -> list[np.ndarray]:
    return [image_grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1]) for rows in table]


def _arrays(run: Run, table: np.ndarray, others: dict[str, Any]) -> dict[str, np.ndarray]:
    return {run.plan.dataset.spec.subject: table, "seed": np.asarray(run.plan.settings.seeds, np.int64), **others}


def _members(dataset: Dataset, name: str, num: int | None = None) -> np.ndarray:
    """Indices of `num` evenly spaced test examples of a class, or of all if `num` is None."""
    names = _class_names(dataset, "--groups names classes")
    if name not in names:
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise UserError(f"unknown class {name!r}: {dataset.name} has {listed}")
    found = np.flatnonzero(np.asarray(dataset.test["label"]) == names.index(name))
    if not len(found):
        raise UserError(f"dataset {dataset.name} has no test images of class {name}")
    _check_num(num or 1, len(found), f"test images of class {name}")
    return found[spread(num or len(found), len(found))]


def _class_names(dataset: Dataset, why: str) -> tuple[str, ...]:
    """Names of the classes, or their numbers; raises UserError if there are no labels."""
    if "label" not in dataset.test:
        raise UserError(f"{why}, which dataset {dataset.name} does not have")
    return dataset.classes or tuple(map(str, range(dataset.spec.num_classes)))


def _check_num(num: int, most: int, what: str) -> None:
    if num > most:
        raise UserError(f"--num must be at most {most}, the {what}, not {num}")


def _check_range(option: str, values, end: int) -> None:
    for value in values:
        if not 0 <= value < end:
            raise UserError(f"{option} must lie between 0 and {end - 1}, not {value}")


def _read(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError) as error:  # Pillow raises both for damaged files
        raise UserError(f"cannot read {file}: {error}") from None
    return pixels.reshape(*pixels.shape[:2], -1)
