"""The feature extractor and the judge of a dataset: shipped with jaxgen, trained once and kept, or the user's own.

A classifier's file is safetensors: its parameters, as float16, and in the header under "jaxgen" a JSON object with
its config, accuracy, how it was trained, and the sha256 of the parameters, which is checked whenever it is read.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxgen import data, models
from jaxgen.config import configured
from jaxgen.data import pipeline
from jaxgen.dependencies import sources
from jaxgen.errors import UserError
from jaxgen.evaluation.extractor import Extractor, digest, fitted, of_classifier
from jaxgen.evaluation.inception import load_inception
from jaxgen.model import Key, Model, Spec, State
from jaxgen.training.engine import COMPILER_OPTIONS
from jaxgen.training.environment import environment

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the shipped files, NAME-extractor.safetensors and NAME-judge.safetensors."""

SHIPPED = {
    "digits": "digits",
    "stacked_digits": "digits",
    "mnist": "mnist",
    "binarized_mnist": "mnist",
    "stacked_mnist": "mnist",
    "fashion_mnist": "fashion_mnist",
}
"""By dataset, what its shipped networks were trained on."""

STEPS = 600  # of a classifier that is trained when it is needed
CHUNK = 100  # steps a dispatch
HEADER = "jaxgen"
FORMAT = 2  # of the files: since then the header has a sha256 of its own


class Network(NamedTuple):
    """How a dataset's classifier is trained for evaluation."""

    name: str
    config: dict[str, Any]
    seed: int
    steps: int = STEPS
    batch_size: int = 64

    def described(self) -> str:
        """The recipe, as part of a sentence."""
        return (
            f"convolutional classifier, {self.config}, {self.steps:,} steps of {self.batch_size} training images, "
            f"the learning rate falling to 0 along a cosine, seed {self.seed}"
        )


EXTRACTOR = Network("extractor", {"features": 32, "embedding_dim": 64}, seed=0)
# Another width, other weights and another order of the data, so that the two do not err alike.
JUDGE = Network("judge", {"features": 24, "embedding_dim": 128}, seed=1)


def extractors(
    dataset: data.Dataset, choice: str | None = None, progress: bool = True
) -> tuple[Extractor | None, Extractor | None]:
    """(extractor, judge) of a dataset; None for one that cannot be, without images that have labels to learn from.

    Args:
        dataset: of images, or of points, whose features are themselves.
        choice: a file to be used as extractor: a network of jaxgen's (.safetensors), or a Python file with
            `features(images)`, uint8 [num, H, W, C] -> float [num, dimensions], and of choice `logits(images)`. If
            not given, the network shipped for the dataset, or one trained on it now and kept in the cache.
        progress: show on stderr how far training is.

    Returns:
        The judge is a classifier trained apart from the extractor.

    Raises:
        UserError: a file that is no extractor, or one for data that are no images.
    """
    entries, subject = dataset.spec.entries, dataset.spec.subject
    if subject != "image":
        if choice is not None:
            raise UserError(f"dataset {dataset.name} has no images, so extractors are not for it")
        if subject != "point":
            return None, None
        return Extractor("points", "", np.asarray, note="the points themselves"), None
    judge = _own(JUDGE, dataset, progress) if "label" in entries else None
    if choice is not None:
        return chosen(choice), judge
    return judge and _own(EXTRACTOR, dataset, progress), judge


def chosen(file: str | Path) -> Extractor:
    """An extractor by its file, .safetensors or .py. Raises UserError where it is none."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"no extractor file {path}")
    if path.suffix == ".py":
        return _function(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            own = HEADER in (opened.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is no extractor file: neither .py nor safetensors ({str(error)[:200]})") from None
    return load_classifier(path) if own else load_inception(path)


def _function(path: Path) -> Extractor:
    """Of a user's Python file."""
    spec = importlib.util.spec_from_file_location(f"jaxgen_extractor_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, "features", None)):
        raise UserError(f"{path} has no function features(images)")

    def checked(name, function):
        def of(images):
            try:
                rows = np.asarray(function(images))
            except Exception as error:
                raise UserError(f"{path}: {name} failed: {type(error).__name__}: {error}") from error
            if rows.ndim != 2 or len(rows) != len(images):
                raise UserError(f"{path}: {name} gave the shape {rows.shape} for {len(images)} images")
            return rows

        return function and of

    value = hashlib.sha256(path.read_bytes()).hexdigest()
    return Extractor(
        path.stem,
        value,
        checked("features", module.features),
        checked("logits", getattr(module, "logits", None)),
        note=f"the function features of {path.name}",
        whole=False,
    )


def _own(network: Network, dataset: data.Dataset, progress: bool) -> Extractor:
    """The dataset's shipped network, or one trained on its training images where the cache has it not."""
    options = dataset.options
    base = SHIPPED.get(dataset.name)
    # other test or validation images may be among those that a shipped network learned from
    altered = any(options[name] for name in ("crop", "pad", "channels", "validation_split", "test_split"))
    if base and not altered:
        return load_classifier(WEIGHTS / f"{base}-{network.name}.safetensors")
    # How a run is fed does not change what it is measured by, nor does another commit of the same sources.
    options = options | {"flip": False, "pipeline": "auto", "workers": 0}
    described = environment(dataset._replace(options=options)) | {"commit": None}
    depends = json.dumps([FORMAT, network, described, sources("jaxgen.models.classifier")], sort_keys=True)
    kept = data.data_dir() / "extractors" / f"{hashlib.sha256(depends.encode()).hexdigest()[:16]}.safetensors"
    if not kept.exists():
        save_classifier(kept, network, dataset, progress)
    size = "x".join(map(str, dataset.spec.image_shape))
    return load_classifier(kept)._replace(name=f"{dataset.name} {size} {network.name}")


def save_classifier(path: Path, network: Network, dataset: data.Dataset, progress: bool = True) -> None:
    """Trains a network on a dataset's training images, and writes it with its accuracy on the test images."""
    config = network.config | {"decay_steps": network.steps}
    model = _classifier(config, dataset.spec.entries["image"].shape, dataset.spec.num_classes)
    state = fit(
        jax.random.key(network.seed), model, dataset.train, network.steps, network.batch_size,
        title=f"{dataset.name} {network.name}", progress=progress,
    )  # fmt: skip
    flat = flax.traverse_util.flatten_dict(jax.device_get(state.params), sep="/")
    flat = {name: array.astype(np.float16) for name, array in flat.items()}
    described = {
        "kind": "classifier",
        "name": f"{dataset.name} {network.name}",
        "config": config,
        "image": list(dataset.spec.entries["image"].shape),
        "classes": dataset.spec.num_classes,
        "accuracy": accuracy(model, _state(flat), dataset.test["image"], dataset.test["label"]),
        "note": f"{network.described()}; {dataset.note}",
        "fingerprint": dataset.fingerprint,
        "sha256": digest(flat),
    }
    write_weights(path, flat, described)


def write_weights(path: Path, flat: dict[str, np.ndarray], described: dict[str, Any]) -> None:
    """Writes an extractor's file, whole or not at all: its arrays, and its header with a sha256 of its own."""
    described = described | {"header_sha256": _header_sha256(described)}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is whole: of two processes that train at once both write the same.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    safetensors.numpy.save_file(flat, part, metadata={HEADER: json.dumps(described)})
    part.replace(path)


def load_classifier(path: Path) -> Extractor:
    """The extractor of a classifier's file. Raises UserError where it is none, or was changed."""
    flat, described = read_weights(path)
    try:
        model = _classifier(described["config"], tuple(described["image"]), described["classes"])
        state = _state(flat)
        like = jax.eval_shape(model.init, jax.random.key(0))
        if jax.tree.map(np.shape, state.params) != jax.tree.map(np.shape, like.params):
            raise ValueError("parameters of other shapes")
        if like.extra:
            raise ValueError("a network with running averages, which such files do not hold")
        about = {name: described[name] for name in ("name", "accuracy", "note")}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold a classifier of this version of jaxgen: {error}") from None
    return fitted(of_classifier(model, state, digest=described["sha256"], **about), tuple(described["image"]))


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, what the header says) of an extractor's file.

    Raises:
        UserError: it is none of jaxgen's, is damaged, or its arrays or its header are not what was written.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            described = json.loads((file.metadata() or {})[HEADER])
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stated, header = str(described["sha256"]), described.pop("header_sha256")
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is no extractor file of jaxgen, or damaged ({str(error)[:200]})") from None
    if header != _header_sha256(described):
        raise UserError(f"{path} was changed: what its header says is not what was written (sha256)")
    if digest(flat) != stated:
        raise UserError(
            f"{path} was changed: the sha256 of its weights is {digest(flat)[:16]}..., not {stated[:16]}..."
        )
    return flat, described


def _header_sha256(described: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _classifier(config: dict[str, Any], image: tuple[int, int, int], num_classes: int) -> Model:
    module = models.load("classifier")
    entries = {"image": jax.ShapeDtypeStruct(tuple(image), np.uint8), "label": jax.ShapeDtypeStruct((), np.int32)}
    return module.make(configured(module.Config, config, "classifier"), Spec(entries, 1, num_classes))


def _state(flat: dict[str, np.ndarray]) -> State:
    params = {tuple(name.split("/")): array.astype(np.float32) for name, array in flat.items()}
    return State(jnp.int32(0), flax.traverse_util.unflatten_dict(params))


def fit(
    key: Key, model: Model, examples: dict[str, Any], steps: int, batch_size: int, *, title: str, progress: bool
) -> State:
    """The state of a model of one phase after so many steps; `examples` its entries with a leading axis."""
    from jaxgen.progress import Progress

    k_init, k_order, k_steps = jax.random.split(key, 3)
    entries = {name: examples[name] for name in model.needs}
    num = len(next(iter(entries.values())))
    step = model.phases[0].step

    def take(state, batch):
        state, _ = step(jax.random.fold_in(k_steps, state.step), state, batch)
        return state._replace(step=state.step + 1), None

    options = COMPILER_OPTIONS.get(jax.default_backend())
    chunk = jax.jit(lambda state, batches: jax.lax.scan(take, state, batches)[0], compiler_options=options)
    state = jax.jit(model.init)(k_init)
    with Progress(progress) as bar:
        for start in bar.over(range(0, steps, CHUNK), f"training {title}"):
            rows = pipeline.stream(k_order, num, batch_size, start, min(CHUNK, steps - start))
            state = chunk(state, {name: entry[rows] for name, entry in entries.items()})
            jax.block_until_ready(state.step)
    return state


def accuracy(model: Model, state: State, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images uint8 [num, H, W, C] whose labels [num] the model gives them."""
    logits = of_classifier(model, state, name="", digest="").logits(images)
    return float((logits.argmax(-1) == labels).mean())


def learned(
    images: np.ndarray, labels: np.ndarray, dataset: data.Dataset, seed: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """A classifier, images -> labels int [num], trained on images uint8 [num, H, W, C] and their labels.

    It has the extractor's architecture, and is trained as one that no file is shipped of.
    """
    config = EXTRACTOR.config | {"decay_steps": STEPS}
    model = _classifier(config, images.shape[1:], dataset.spec.num_classes)
    examples = {"image": images, "label": labels.astype(np.int32)}
    state = fit(jax.random.key(seed), model, examples, STEPS, EXTRACTOR.batch_size, title="", progress=False)
    logits = of_classifier(model, state, name="", digest="").logits
    return lambda some: logits(some).argmax(-1)
