"""Checks of image files: signature, watermark, signs of latents, redrawing, and comparison with real images.

Each check of a file gives a dict, as `jaxgen verify-image --json` prints it: `says` and what it rests on. Only the
signature proves anything; the others give p-values, or say why they cannot.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen import data
from jaxgen.drawing import spread
from jaxgen.errors import UserError
from jaxgen.pictures import latents
from jaxgen.pictures.kinds import Asked, drawn_samples, samples_asked
from jaxgen.pictures.shown import Shown, shown_by
from jaxgen.provenance import credentials, detector, latent_marks, redraw, watermark
from jaxgen.provenance.detector import Detector
from jaxgen.provenance.keys import key_id
from jaxgen.training.draws import SAMPLES, stream_keys
from jaxgen.training.folder import Run

OTHERS, OTHER_STREAM = 19, 2**20
"""Sets of draws under other keys, so that a p-value is at least 0.05; the stream of their keys."""

NOTHING = "nothing"
"""The result of a test that cannot be made, or cannot say anything of the images."""

INVERTED = 24
"""Maximum number of images whose latents are found by inverting a decoder, which takes hundreds of steps."""


class Means(NamedTuple):
    """Means of checking files, each None if not given."""

    root: bytes | None = None  # the trusted certificate, PEM
    key: bytes | None = None  # of the watermark and of the latents' signs
    run: Run | None = None
    reference: str | None = None  # a dataset's name


def status(results: Sequence[Mapping[str, Any]]) -> int:
    """The exit status: 0 if every file is signed by a trusted signer, 2 if one is broken, else 3."""
    states = {each["signature"]["says"] for each in results}
    if credentials.BROKEN in states:
        return 2
    return 0 if states == {credentials.TRUSTED} else 3


def check(file: Path, means: Means, detectors: dict[Any, Detector]) -> dict[str, Any]:
    """Checks a file by all that is given.

    Args:
        file: a PNG, JPEG, WebP, GIF or npz.
        means: what it is checked against.
        detectors: those fitted so far, by the shape of an image; a new one is added.

    Raises:
        UserError: the file cannot be read, or a package is not installed.
    """
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as error:  # the latter of a name with a null character
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', error)}") from None
    found = credentials.check(content, means.root)
    described = found.described if found.state == credentials.TRUSTED else None  # else a mere claim
    result: dict[str, Any] = {"file": str(file), "signature": {"says": found.state, "reason": found.reason}}
    result["signature"]["described"] = described
    try:
        shown = shown_by(content, described or {}, means.run)
        asked = _asked(described or {}, shown)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        if not described:
            raise
        shown, asked = Shown(None, reason="this version of jaxgen does not read its signed description"), Asked()
    tests: dict[str, Callable[[], dict[str, Any]]] = {}
    if means.key:
        tests["watermark"] = partial(_watermark, shown, means.key)
    if means.key and means.run:
        tests["latents"] = partial(_latents, shown, asked, described or {}, means.key, means.run)
    if means.run:
        tests["redrawn"] = partial(_redrawn, shown, asked, described or {}, means.key, means.run)
    if means.reference:
        tests["real"] = partial(_real, shown, means.reference, means.run, detectors)
    for name, test in tests.items():
        try:
            result[name] = {"says": NOTHING, "reason": shown.reason} if shown.images is None else test()
        except UserError as error:  # a test that does not apply to the file
            result[name] = {"says": NOTHING, "reason": str(error)}
    return result


def _watermark(shown: Shown, key: bytes) -> dict[str, Any]:
    if reason := watermark.unable(shown.images):
        raise UserError(reason)
    return {"says": "p", "p": watermark.p_value(shown.images, key)}


def _latents(shown: Shown, asked: Asked, described: Mapping[str, Any], key: bytes, run: Run) -> dict[str, Any]:
    """The test of the latents' signs: of images at their places or, for one without a place, of all places."""
    _check_parameters(described, run)
    model, seeds = run.plan.model, run.plan.settings.seeds
    if model.latents is None or model.latents.prior.kind not in latents.PATHS:
        raise UserError(f"{run.plan.model_name} has no gaussian or uniform prior")
    _check_shape(shown, run)
    num, _, condition = samples_asked(run, asked)
    images, places = shown.images[: None if model.latents.encode else INVERTED], shown.places
    if places is None and (condition or len(images) > 1):
        raise UserError("which samples of the run the images are is not known")
    if places is not None:
        places = places[: len(images)]
        if not (set(places[:, 0].tolist()) <= set(seeds) and places[:, 1].max() < num):
            raise UserError("the images have other seeds than the run")
    given = {name: entry[places[:, 1]] for name, entry in condition.items()}
    entries = {"image": images, **given}
    if model.latents.encode is None:
        codes = latents.inverted(model, run.state, images, given)
    elif set(model.needs) <= entries.keys():
        codes = latents.encoded(model, run.state, entries)
    else:
        raise UserError(f"{run.plan.model_name} encodes images by {', '.join(model.needs)}, which are not known")
    codes = codes.reshape(*codes.shape[:2], -1)  # [seeds, images, d]
    size = codes.shape[2]
    if places is None:
        every = [latent_marks.all_signs(key, seed, num, size) for seed in seeds]
        tests = [latent_marks.found(of[0], signs)[1] for of, signs in zip(codes, every, strict=True)]
        p, candidates = min(1.0, len(seeds) * min(tests)), len(seeds) * num
    else:
        own = np.stack([codes[seeds.index(seed), i] for i, (seed, _) in enumerate(places)])
        signs = np.stack([latent_marks.signs(key, int(seed), int(index), size) for seed, index in places])
        p, candidates = latent_marks.p_value(own, signs), 1
    if (least := latent_marks.least(size * len(images), candidates)) > latent_marks.LEAST:
        raise UserError(f"{size * len(images)} signs give no p-value below {least:.2g}")
    return {"says": "p", "p": p, "signs": size * len(images)}


def _redrawn(shown: Shown, asked: Asked, described: Mapping[str, Any], key: bytes | None, run: Run) -> dict[str, Any]:
    """The nearest of the run's own draws, and the rank of its cosine among those of draws under other keys."""
    _check_parameters(described, run)
    model, seeds, subject = run.plan.model, run.plan.settings.seeds, run.plan.dataset.spec.subject
    if model.sampler is None:
        raise UserError(f"{run.plan.model_name} draws no samples")
    _check_shape(shown, run)
    if keyed := described.get("keyed"):
        if key is None or key_id(key) != keyed:
            raise UserError(f"its latents have the signs of key {keyed}, which --key must name")
        asked = asked._replace(keyed=key)
    num, _, condition = samples_asked(run, asked)
    own = drawn_samples(run, asked, stream_keys(run, SAMPLES), num, condition)[subject]
    many = {name: np.concatenate([entry] * OTHERS) for name, entry in condition.items()}
    others = drawn_samples(run, asked, stream_keys(run, OTHER_STREAM), OTHERS * num, many)[subject]
    others = others.reshape(len(seeds), OTHERS, num, *others.shape[2:]).swapaxes(0, 1)
    flat = own.reshape(-1, *own.shape[2:])
    found = redraw.nearest(shown.images, flat, others.reshape(OTHERS, *flat.shape))
    places = [(seeds[i // num], i % num) for i in found.index.tolist()]
    there = shown.places is not None and [list(place) for place in places] == shown.places.tolist()
    return {
        "says": "p",
        "p": found.p,
        "places": [list(place) for place in places],
        "cosine": float(np.median(found.cosine)),
        "second": float(np.median(found.second)),
        "in_place": there,
    }


def _real(shown: Shown, reference: str, run: Run | None, detectors: dict[Any, Detector]) -> dict[str, Any]:
    shape = shown.images.shape[1:]
    if min(shape[:2]) < detector.SMALLEST:
        reason = f"images of fewer than {detector.SMALLEST} pixels a side have too few statistics"
        return {"says": detector.CANNOT_TELL, "reason": reason}
    if shape not in detectors:
        own = run is not None and run.plan.dataset.name == reference
        dataset = run.plan.dataset if own else data.load(reference)
        if "image" not in dataset.spec.entries:
            raise UserError(f"dataset {reference} has no images")
        if not own and shape[0] == shape[1] < min(dataset.spec.image_shape[:2]):  # enlarged images would all be unlike
            dataset = data.load(reference, image_size=shape[0])
        train = dataset.train["image"]
        detectors[shape] = detector.fit(np.asarray(train[spread(detector.MOST, len(train))]))
    says, p, reason = detector.answer(detectors[shape], shown.images)
    return {"says": says, "reason": reason} | ({} if p is None else {"p": p})


def _asked(described: Mapping[str, Any], shown: Shown) -> Asked:
    """The options of samples by their description or, without one, with as many as are shown in the grids."""
    if described:
        given = json.loads(described["options"])
        options: dict[str, Any] = {name: tuple(of) if isinstance(of, list) else of for name, of in given.items()}
        return Asked(**options)
    return Asked(None if shown.places is None else int(shown.places[:, 1].max()) + 1)


def _check_parameters(described: Mapping[str, Any], run: Run) -> None:
    if described and described.get("parameters_sha256") != run.named_digests():
        told = [described.get(name, "unknown") for name in ("model", "checkpoint")]
        raise UserError("signed as drawn from other parameters, of {} at checkpoint {}".format(*told))


def _check_shape(shown: Shown, run: Run) -> None:
    spec = run.plan.dataset.spec
    if spec.subject != "image":
        raise UserError(f"samples of {run.plan.dataset.name} are not images")
    if shown.images.shape[1:] != spec.image_shape:
        sizes = ["x".join(map(str, shape)) for shape in (shown.images.shape[1:], spec.image_shape)]
        raise UserError(f"images of {sizes[0]}, and the run's are {sizes[1]}")
