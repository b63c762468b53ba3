"""Pictures of a finished run, as `jaxgen sample` writes them."""

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgen import models
from jaxgen.data import Dataset
from jaxgen.data.readers.image_folder import folder_names
from jaxgen.data.vocabulary import tokenize
from jaxgen.drawing import stacked, to_animation, to_png
from jaxgen.errors import UserError
from jaxgen.files import check_writable, contents, expanded, new_folder, write_new
from jaxgen.model import Model
from jaxgen.pictures import latents, sealing
from jaxgen.pictures.kinds import FOLDER, KINDS, Asked, Drawn, Kind, scale_of
from jaxgen.progress import Progress
from jaxgen.provenance.credentials import Seal
from jaxgen.provenance.keys import own_keys
from jaxgen.provenance.watermark import check_markable, embed
from jaxgen.training.draws import MOST, caption_tokens
from jaxgen.training.folder import open_run
from jaxgen.training.plan import Plan

LACKS: dict[str, tuple[str, Callable[[Model], bool]]] = {
    "sample": ("cannot sample", lambda model: model.sampler is not None),
    "complete": (
        "does not complete images",
        lambda model: model.sampler is not None and model.sampler.complete is not None,
    ),
    "decode": ("does not decode latents", lambda model: model.latents is not None),
    "encode": ("does not encode images", lambda model: model.latents is not None and model.latents.encode is not None),
    "path": (
        "has no gaussian or uniform prior to move in",
        lambda model: model.latents is not None and model.latents.prior.kind in latents.PATHS,
    ),
    "classify": ("does not classify", lambda model: "label" in model.predict),
    "codes": ("infers no codes", lambda model: "code" in model.predict),
    "between": (
        "has no images between two captions",
        lambda model: model.latents is not None and model.latents.between is not None,
    ),
    "write": ("writes no captions", lambda model: "caption" in model.predict),
}
"""Map from a capability that kinds of pictures need to (words for a model that lacks it, test of a model)."""


def sample(
    run: str | Path,
    kind: str = "samples",
    *,
    checkpoint: str | int = "newest",
    num: int | None = None,
    steps: int | None = None,
    dims: tuple[int, ...] | None = None,
    around: int | None = None,
    groups: tuple[str, ...] | None = None,
    rejection: int | None = None,
    caption: tuple[str, ...] | None = None,
    captions: str | Path | None = None,
    watermark: float | None = None,
    keyed: bool = False,
    sign: bool = False,
    out: str | Path | None = None,
    progress: bool = False,
) -> Path:
    """Writes a picture of every seed of a run; the same call writes the same file, unless it is signed.

    samples          `num` (64) samples; for a model given labels rounded down to a whole number per class, and sorted
                     by class; for one given captions the root of `num` of each of as many captions, the first
                     distinct ones of the test images, or `num` (8 of each) of those in `caption`. Of a model given
                     labels, each can be the best of `rejection` draws, by the dataset's judge.
    interpolation    `num` (8) rows of `steps` (9) images from one draw of the prior to another: along an arc if
                     the prior is Gaussian (`jaxgen.pictures.latents.spherical`), else along the line. Below a row of
                     meshes are those of the straight path of vertices between its ends.
    traversal        a row for each of `num` (8) dimensions of a code, which takes `steps` (9) even values: from -3 to
                     3 standard deviations of a Gaussian prior, or from -1 to 1 for a uniform prior. The code
                     is that of test image `around` or, if not given, the prior's mean; for a model that does not
                     encode, a draw of the prior. The dimensions are `dims` or, if not given, those that vary
                     most over the test images' codes, by seed; for a model that does not encode, the first ones.
    arithmetic       `num` (8) rows: a test image of each of three classes, `groups`, and the image of a - b + c of
                     their codes; the last row shows the same of the classes' mean codes, each decoded.
    attribute        `num` (8) rows of `steps` (9) images: the codes of the first test images of the second of two
                     classes, `groups`, moved in equal steps along the mean code of the first class's test images minus
                     that of the second's; each row begins with the image of its own code.
    reconstructions  the first `num` (32) test images, or 8 meshes, each above the one of its code; of codes of several
                     levels, above those of the coarsest alone, of the two coarsest, and so on.
    completions      `num` (8) rows of a test image and `steps` (9) images that the model draws given its upper half.
    animation        the sample grids that training saved, a frame each, with the step above.
    manifold         `steps` (20) rows of as many images, of codes of two numbers: the first grows to the right, the
                     second upwards, by even shares of their prior's probability.
    classified       the first `num` (16) test images classified correctly and, below, the first classified wrongly,
                     each above the names of its true and its predicted class.
    codes            a block of `num` (as many as categories) rows for each code that the model infers, along which
                     it varies while the rest of z is fixed: the categorical code with a column per category and, below,
                     each continuous code in as many even steps from -2 to 2, with row i of category i.

    captions         `num` (8) rows of `steps` (9) images from one caption of `caption` to the other, each row with its
                     own draw of the prior.
    captioned        `num` (16) test images, each above the caption that the model writes of it; of scenes of shapes
                     with whether it is true.

    Meshes of paths and reconstructions are seen from two sides.

    A conditional model's paths keep one test example's condition: row i that of the i-th example, a traversal that
    of `around` or of the first, a manifold that of the first.

    Args:
        run: the run folder.
        kind: one of these.
        checkpoint: as `open_run` takes it.
        num: as above, as are `steps`, `dims`, `around`, `groups` (the names of classes) and `rejection`.
        caption: captions, of words that the run's captions have; a word that is in none is read as unknown.
        captions: a text file of captions, one a line, instead.
        watermark: strength in dB of a watermark in the samples, by the user's key (`jaxgen.provenance.watermark`).
        keyed: whether the signs of the samples' latents are those of the user's key (`jaxgen.provenance.latent_marks`).
        sign: whether the file is signed by the user's key (`jaxgen.provenance.credentials`); an npz file is then not
            compressed. A file that holds the same, signed by the same key, is left as it is.
        out: a .png (the seeds' grids one below the other, small images enlarged) or .npz file, or a .gif or .webp of a
            path, there and back (a frame shows all rows' images of a step), or of training. RUN/KIND.png, or
            RUN/animation.gif, if not given. Samples can also be a folder, FOLDER/: a file seed-SEED-NUMBER.png per
            image, or .ply per mesh, in folders of the classes if labeled. An npz holds image uint8 [seeds, rows,
            columns, H, W, C] (reconstructions: [seeds, num, 1 + levels, H, W, C], codes: [seeds, codes, rows, columns,
            H, W, C]), seed int64 [seeds], z and the values of rows and columns; samples: image uint8 [seeds * num, H,
            W, C], seed int64 [seeds * num], and the condition's entries; classified: image uint8 [n, H, W, C], seed
            int64 [n], label and predicted int32 [n], and the latter's probability float32 [n]; captioned: image uint8
            [num, H, W, C], caption int32 [seeds, num, words], and true bool [seeds, num] of scenes. Of meshes it holds
            mesh float32 [..., V, 3] instead of image, and straight beside an interpolation.
        progress: whether stderr says what is drawn, if it takes long, and which words of `caption` are unknown.

    Returns:
        The file, or the folder.

    Raises:
        UserError: an unknown kind, option or class, a model that does not support the kind, a file of another
            suffix, or one that exists with other content.
    """
    opened = open_run(run, checkpoint)
    if captions is not None:
        caption = _lines_of(captions, caption)
    keys = own_keys() if sign or keyed or watermark is not None else None
    marking = None if watermark is None else partial(embed, key=keys.watermark, psnr=watermark)
    asked = Asked(num, steps, dims, around, groups, rejection, caption, marking, keys.watermark if keyed else None)
    if kind not in KINDS:
        raise UserError(f"unknown kind {kind!r}: there are {', '.join(KINDS)}")
    how = KINDS[kind]
    if opened.plan.dataset.spec.subject not in how.subjects:
        raise UserError(f"{kind} shows {how.subjects[0]}s, which dataset {opened.plan.dataset.name} does not have")
    is_folder = bool(out) and (
        str(out).endswith(("/", os.sep)) or os.path.isdir(out)
    )  # Path.is_dir raises for too long a name
    out = expanded(out) if out is not None else opened.path / f"{kind}{how.suffixes[0]}"
    suffix = FOLDER if is_folder else out.suffix.lower()
    if suffix not in how.suffixes:
        *others, last = [f"a folder ({each})" if each == FOLDER else each for each in how.suffixes]
        asked_for = f"{out.name}/" if is_folder else out.name
        raise UserError(f"{kind} can be written as {', '.join(others)} or {last}, not as {asked_for!r}")
    if is_folder and opened.plan.dataset.spec.subject == "point":
        raise UserError(
            f"samples of {opened.plan.dataset.name} are not images, so they cannot be a folder of files: choose .npz"
        )
    if is_folder and sign and opened.plan.dataset.spec.subject == "mesh":
        raise UserError("PLY files cannot be signed: choose .npz or .png, or leave --sign out")
    check_writable(out / "seed" if is_folder else out)
    _check_model(how, opened.plan)
    _check_options(kind, asked, opened.plan)
    _check_marks(asked, opened.plan, watermark)
    for note in _check_captions(kind, asked, opened.plan):
        if progress:
            print(note, file=sys.stderr)
    with Progress(progress) as bar:
        bar.start(f"drawing {kind}")
        drawn = how.draw(opened, asked)
    seal = sealing.seal(opened, kind, asked, drawn, suffix, keys, watermark) if sign else None
    if is_folder:
        _write_folder(out, _files(drawn.arrays, opened.plan.dataset), seal)
        return out
    content = _content(drawn, suffix, opened.plan, compressed=not sign)
    if seal and out.is_file() and seal.holds(out.read_bytes(), content):
        return out
    write_new(out, seal.signed(content) if seal else content)
    return out


class File(NamedTuple):
    """An example of a folder of samples."""

    content: bytes
    seed: int
    number: int  # among the seed's


def _files(arrays: Mapping[str, np.ndarray], dataset: Dataset) -> dict[str, File]:
    """Map from path to a PNG per image or a PLY per mesh: numbered by seed, in folders of the classes if labeled."""
    if "mesh" in arrays:
        write, suffix, examples = partial(_ply, faces=dataset.spec.faces), "ply", arrays["mesh"]
    else:
        write, suffix, examples = to_png, "png", arrays["image"]
    names = folder_names(dataset.classes or [str(label) for label in range(dataset.spec.num_classes or 0)])
    place = [f"{names[label]}/" for label in arrays["label"]] if "label" in arrays else [""] * len(arrays["seed"])
    counts, files = Counter(), {}
    for folder, seed, example in zip(place, arrays["seed"].tolist(), examples, strict=True):
        files[f"{folder}seed-{seed}-{counts[seed]:05}.{suffix}"] = File(write(example), seed, counts[seed])
        counts[seed] += 1
    return files


def _ply(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """A binary PLY file of a mesh [V, 3]."""
    import trimesh

    return trimesh.exchange.ply.export_ply(trimesh.Trimesh(vertices, faces, process=False))


def _write_folder(out: Path, files: Mapping[str, File], seal: Seal | None) -> None:
    """Writes the files, all or none, signed if there is a seal; raises UserError if the folder has other content."""

    def holds(there: bytes, file: File) -> bool:
        if seal is None:
            return there == file.content
        return seal.holds(there, file.content, seed=file.seed, index=file.number)

    if out.exists():
        there = contents(out)
        if there.keys() == files.keys() and all(holds(there[path], file) for path, file in files.items()):
            return
    with new_folder(out) as made:
        for path, file in files.items():
            content = seal.signed(file.content, seed=file.seed, index=file.number) if seal else file.content
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_bytes(content)


def _lines_of(file: str | Path, caption: tuple[str, ...] | None) -> tuple[str, ...]:
    """The captions of a text file; raises UserError if it cannot be read, or if captions are given otherwise too."""
    if caption:
        raise UserError("captions are given by --caption or by the file --captions, not by both")
    try:
        lines = expanded(file).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    if not any(line.strip() for line in lines):
        raise UserError(f"{file} has no captions: write one a line")
    return tuple(line.strip() for line in lines if line.strip())


def _check_captions(kind: str, asked: Asked, plan: Plan) -> list[str]:
    """Notes on words that the run's captions do not have.

    Raises UserError for captions without known words, for a model that is given none, and for one or three of a pair.
    """
    if kind == "captions" and len(asked.caption or ()) != 2:
        raise UserError("--kind captions needs two captions, as in --caption 'a red circle' 'a blue square'")
    if asked.caption is None:
        return []
    if "caption" not in plan.model.conditions:
        able = models.that_can(lambda model: "caption" in model.conditions, plan.dataset.spec)
        also = f"; models that are: {', '.join(able)}" if able else ""
        raise UserError(f"{plan.model_name} is given no captions{also}")
    if not asked.caption:
        raise UserError("--caption must give at least one caption")
    if asked.num is not None and kind == "samples" and asked.num < len(asked.caption):
        raise UserError(f"--num must be at least {len(asked.caption)}, one a caption, not {asked.num}")
    notes, vocabulary, most = [], plan.dataset.vocabulary, plan.dataset.spec.entries["caption"].shape[0]
    for caption in asked.caption:
        words, unknown = tokenize(caption), vocabulary.unknown(caption)
        caption_tokens(plan.dataset, [caption])
        if unknown:
            notes.append(f"caption {caption!r}: not in the vocabulary, so read as unknown: {', '.join(unknown)}")
        if len(words) > most:
            notes.append(f"caption {caption!r}: only the first {most} of its {len(words)} words are read")
    return notes


def _check_options(kind: str, asked: Asked, plan: Plan) -> None:
    """Raises UserError for an option that the kind does not take, one that it lacks, or a number that is too small."""
    takes = KINDS[kind].takes
    for name, value in asked._asdict().items():
        if value is not None and name not in takes:
            takers = ", ".join(other for other, row in KINDS.items() if name in row.takes)
            raise UserError(f"--{name} applies to {takers}, not to {kind}")
    named = KINDS[kind].groups
    if len(asked.groups or ()) != len(named):
        number = ("one", "two", "three")[len(named) - 1]
        raise UserError(f"--kind {kind} needs --groups {' '.join(named)}, {number} classes of {plan.dataset.name}")
    if asked.dims is not None and asked.num is not None:
        raise UserError("--dims says which rows there are: leave --num out")
    if asked.dims == ():
        raise UserError("--dims must name at least one dimension")
    by_class = kind == "samples" and "label" in plan.model.conditions
    if asked.rejection is not None and not by_class:
        raise UserError(f"--rejection applies to models given labels, not to {plan.model_name}")
    least = plan.dataset.spec.num_classes if by_class else 1
    if asked.num is not None and asked.num < least:
        raise UserError(f"--num must be at least {least}{', one a class' if least > 1 else ''}, not {asked.num}")
    for name, value in (("num", asked.num), ("steps", asked.steps), ("rejection", asked.rejection)):
        if (value or 0) > MOST:
            raise UserError(f"--{name} must be at most {MOST:,}, not {value}")
    if asked.rejection is not None and asked.rejection < 1:
        raise UserError(f"--rejection must be at least 1, not {asked.rejection}")
    if asked.steps is not None and asked.steps < 2:
        raise UserError(f"--steps must be at least 2, not {asked.steps}")


def _check_marks(asked: Asked, plan: Plan, watermark: float | None) -> None:
    """Raises UserError for marks that the samples cannot have."""
    spec = plan.dataset.spec
    if asked.watermark:
        if spec.subject != "image":
            raise UserError(f"--watermark is for images, and samples of {plan.dataset.name} are none")
        check_markable(*spec.image_shape[:2], watermark)
    if asked.keyed:
        if asked.rejection:
            raise UserError("--rejection chooses among draws, and --keyed sets their signs: leave one out")
        words, has = LACKS["path"]
        if not has(plan.model):
            able = models.that_can(lambda model: model.sampler is not None and has(model), spec)
            raise UserError(f"{plan.model_name} {words}; models that do: {', '.join(able) or 'none'}")


def _check_model(how: Kind, plan: Plan) -> None:
    """Raises UserError, naming the models that can, if the run's model does not support the kind."""
    words = _lacks(how, plan.model)
    if words:
        able = models.that_can(lambda model: not _lacks(how, model), plan.dataset.spec)
        raise UserError(f"{plan.model_name} {words}; models that can: {', '.join(able) or 'none'}")


def _lacks(how: Kind, model: Model) -> str:
    """Capability that a model lacks for a kind, in words; "" if none."""
    if how.unconditional and model.conditions:
        return f"is given the {' and '.join(model.conditions)} beside its codes"
    return next((words for name, (words, has) in LACKS.items() if name in how.needs and not has(model)), "")


def _content(drawn: Drawn, suffix: str, plan: Plan, compressed: bool) -> bytes:
    """Content of the file."""
    if suffix == ".npz":
        file = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(file, **drawn.arrays)
        return file.getvalue()
    if suffix == ".png":
        return to_png(stacked(drawn.grids), scale_of(drawn, plan.dataset))
    try:
        return to_animation(drawn.frames, drawn.milliseconds, suffix)
    except ValueError as error:
        raise UserError(f"{error}; choose .gif") from None
