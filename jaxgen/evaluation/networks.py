"""Feature extractor and judge of a dataset: shipped with jaxgen, trained once and cached, or the user's own.

A classifier's file is safetensors: its parameters, as float16, and in the header under "jaxgen" a JSON object with
its config, its accuracy, how it was trained, and the sha256 of the parameters, which is checked on every read.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
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
from jaxgen.dependencies import function_sources, sources
from jaxgen.errors import UserError
from jaxgen.evaluation.corruptions import SHARE, rejected
from jaxgen.evaluation.extractor import Extractor, batched, digest, fitted, of_classifier
from jaxgen.evaluation.inception import load_inception
from jaxgen.model import Key, Model, Spec, State
from jaxgen.nn.image import to_signed
from jaxgen.nn.text import Matching, similarities
from jaxgen.training.engine import compiler_options
from jaxgen.training.environment import environment
from jaxgen.user_files import load_file

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
"""Map from dataset to the dataset that its shipped networks were trained on."""

STEPS = 600  # training steps of a classifier that is trained on demand
CHUNK = 100  # steps per dispatch
HEADER = "jaxgen"
FORMAT = 3  # version of the files; 3 added judges that reject images


class Network(NamedTuple):
    """Training recipe of a dataset's classifier for evaluation."""

    name: str
    config: dict[str, Any]
    seed: int
    steps: int = STEPS
    batch_size: int = 64
    rejects: bool = False  # True if it also learns to reject images of no class

    def described(self) -> str:
        """The recipe, as part of a sentence."""
        rejects = (
            f" and, for every {SHARE}, of one of no class (noise, shuffled pixels, blends)" if self.rejects else ""
        )
        return (
            f"convolutional classifier, {self.config}, {self.steps:,} steps of {self.batch_size} training images"
            f"{rejects}, the learning rate falling to 0 along a cosine, seed {self.seed}"
        )


EXTRACTOR = Network("extractor", {"features": 32, "embedding_dim": 64}, seed=0)
# The judge differs in width, initialization and order of the data, so that the two do not make the same errors.
JUDGE = Network("judge", {"features": 24, "embedding_dim": 128}, seed=1, rejects=True)


def extractors(
    dataset: data.Dataset, choice: str | None = None, progress: bool = True
) -> tuple[Extractor | None, Extractor | None]:
    """Returns the (extractor, judge) of a dataset.

    Args:
        dataset: a dataset of images, or of points, which are their own features.
        choice: the extractor's file: a network of jaxgen's or a converted Inception (.safetensors), or a Python file
            with `features(images)`, uint8 [num, H, W, C] -> float [num, dimensions], and optionally `logits(images)`.
            If not given, the network shipped for the dataset, or one trained on it now and cached.
        progress: show the progress of training on stderr.

    Returns:
        The judge is a classifier trained apart from the extractor. Both are None if the data have no images, or no
        labels to train them on; with a `choice` only the judge is.

    Raises:
        UserError: the file is not an extractor, or the data have no images for it.
    """
    entries, subject = dataset.spec.entries, dataset.spec.subject
    if subject != "image":
        if choice is not None:
            raise UserError(f"dataset {dataset.name} has no images, so extractors are not for it")
        if subject != "point":
            return None, None
        return Extractor("points", "", np.asarray, note="the points themselves"), None
    given = None if choice is None else chosen(choice)  # refused before a judge is trained
    judge = _own(JUDGE, dataset, progress) if "label" in entries else None
    if given:
        return given, judge
    return judge and _own(EXTRACTOR, dataset, progress), judge


def chosen(file: str | Path) -> Extractor:
    """Loads an extractor from a file, .safetensors or .py. Raises UserError if it is not one."""
    path = Path(os.path.expanduser(file))
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
    """Extractor of a user's Python file."""
    module, _ = load_file(path, "extractor")
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
    """The dataset's shipped network, or one trained on its training images if the cache has none."""
    base = SHIPPED.get(dataset.name)
    # with these options, a shipped network may have been trained on test or validation images
    altered = any(dataset.options[name] for name in ("crop", "pad", "channels", "validation_split", "test_split"))
    if base and not altered:
        return load_classifier(WEIGHTS / f"{base}-{network.name}.safetensors")
    kept = _kept(network, dataset)
    if not kept.exists():
        save_classifier(kept, network, dataset, progress)
    size = "x".join(map(str, dataset.spec.image_shape))
    return load_classifier(kept)._replace(name=f"{dataset.name} {size} {network.name}")


def _kept(network: Network, dataset: data.Dataset) -> Path:
    """Path in the cache of a network that is trained on demand, named by all that its weights depend on."""
    # The cache key leaves out how a run is fed, and the commit: the hashed sources say more.
    options = {name: value for name, value in dataset.options.items() if name not in ("labels", "captions", "subset")}
    options |= {"flip": False, "pipeline": "auto", "workers": 0}
    described = environment(dataset._replace(options=options)) | {"commit": None}
    trained_by = [
        sources("jaxgen.models.classifier", "jaxgen.evaluation.corruptions"),
        function_sources(save_classifier),
    ]
    depends = json.dumps([FORMAT, network, described, trained_by], sort_keys=True)
    return data.data_dir() / "extractors" / f"{hashlib.sha256(depends.encode()).hexdigest()[:16]}.safetensors"


class Extended(NamedTuple):
    """Images of a dataset, which may be decoded on access, and further ones after them."""

    first: Any
    more: np.ndarray

    def __len__(self) -> int:
        return len(self.first) + len(self.more)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        beyond = rows >= len(self.first)
        images = np.array(self.first[np.where(beyond, 0, rows)])
        images[beyond] = self.more[rows[beyond] - len(self.first)]
        return images


def save_classifier(path: Path, network: Network, dataset: data.Dataset, progress: bool = True) -> None:
    """Trains a network on a dataset's training images and writes it with its accuracy on the test images."""
    config = network.config | {"decay_steps": network.steps}
    model = _classifier(config, dataset.spec.entries["image"].shape, dataset.spec.num_classes + network.rejects)
    examples = dataset.train
    if network.rejects:
        labels = examples["label"][:]
        none = rejected(examples["image"], labels, network.seed)
        label = np.full(len(none), dataset.spec.num_classes, labels.dtype)
        examples = {"image": Extended(examples["image"], none), "label": np.append(labels, label)}
    state = fit(
        jax.random.key(network.seed), model, examples, network.steps, network.batch_size,
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
        "rejects": network.rejects,
        "accuracy": accuracy(model, _state(flat), dataset.test["image"], dataset.test["label"], network.rejects),
        "note": f"{network.described()}; {dataset.note}",
        "fingerprint": dataset.fingerprint,
        "sha256": digest(flat),
    }
    write_weights(path, flat, described)


def write_weights(path: Path, flat: dict[str, np.ndarray], described: dict[str, Any]) -> None:
    """Writes an extractor's file atomically: its arrays, and its header with the header's own sha256."""
    described = described | {"header_sha256": _header_sha256(described)}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when complete; two processes that train at once write the same.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    safetensors.numpy.save_file(flat, part, metadata={HEADER: json.dumps(described)})
    part.replace(path)


_LOADED: dict[str, Extractor] = {}
"""Extractors by their header, so that a process compiles each one once."""


def load_classifier(path: Path) -> Extractor:
    """Loads the extractor in a classifier's file. Raises UserError if it is not such a file, or was changed."""
    flat, described = read_weights(path)
    content = json.dumps(described, sort_keys=True)  # has the sha256 of the weights
    if content not in _LOADED:
        _LOADED[content] = _extractor(path, flat, described)
    return _LOADED[content]


def _extractor(path: Path, flat: dict[str, np.ndarray], described: dict[str, Any]) -> Extractor:
    try:
        rejects = described.get("rejects", False)
        model = _classifier(described["config"], tuple(described["image"]), described["classes"] + rejects)
        state = _state(flat)
        like = jax.eval_shape(model.init, jax.random.key(0))
        if jax.tree.map(np.shape, state.params) != jax.tree.map(np.shape, like.params):
            raise ValueError("parameters of other shapes")
        if like.extra:
            raise ValueError("a network with running averages, which such files do not hold")
        about = {name: described[name] for name in ("name", "accuracy", "note")} | {"rejects": rejects}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold a classifier of this version of jaxgen: {error}") from None
    return fitted(of_classifier(model, state, digest=described["sha256"], **about), tuple(described["image"]))


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns (arrays by name, the header's JSON object) of an extractor's file.

    Raises:
        UserError: it is not jaxgen's, is damaged, or its arrays or header were changed.
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
    """Trains a model of one phase and returns its state; `examples` are its entries with a leading axis."""
    from jaxgen.progress import Progress

    k_init, k_order, k_steps = jax.random.split(key, 3)
    entries = {name: examples[name] for name in model.needs}
    num = len(next(iter(entries.values())))
    step = model.phases[0].step

    def take(state, batch):
        state, _ = step(jax.random.fold_in(k_steps, state.step), state, batch)
        return state._replace(step=state.step + 1), None

    options = compiler_options(jax.default_backend(), "float32")
    chunk = jax.jit(lambda state, batches: jax.lax.scan(take, state, batches)[0], compiler_options=options)
    state = jax.jit(model.init)(k_init)
    with Progress(progress) as bar:
        for start in bar.over(range(0, steps, CHUNK), f"training {title}"):
            rows = pipeline.stream(k_order, num, batch_size, start, min(CHUNK, steps - start))
            state = chunk(state, {name: entry[rows] for name, entry in entries.items()})
            jax.block_until_ready(state.step)
    return state


RETRIEVAL_STEPS = 2000
"""Training steps of the text encoder that finds captions."""


def retriever(dataset: data.Dataset, say: Callable[[str], None]) -> Callable[[np.ndarray, Sequence[str]], np.ndarray]:
    """Trains a text encoder on a dataset's training images and captions: StackGAN's, with another seed and other sizes.

    `say` is told what is done.

    Returns:
        (images uint8 [n, H, W, C], captions [m]) -> cosines of their codes, float32 [n, m].
    """
    stackgan = models.load("stackgan")
    config = stackgan.Config(word_dim=48, text_dim=96, features=12, stages="one")
    spec = dataset.spec._replace(batch_size=64)
    model = stackgan.make(config, spec)
    say("training a text encoder")
    state = fit(jax.random.key(1), model, dataset.train, RETRIEVAL_STEPS, 64, title="", progress=False)
    net = Matching(spec.num_words, config.word_dim, config.text_dim, config.features, np.dtype("float32"))
    variables, words = {"params": state.params["text"]}, spec.entries["caption"].shape[0]
    of_text = jax.jit(lambda batch: net.apply(variables, batch["caption"], method="text"))
    of_image = jax.jit(lambda batch: net.apply(variables, to_signed(batch["image"]), method="image"))

    def cosines(images, captions):
        texts = batched(of_text, {"caption": dataset.vocabulary.encode(captions, words)})
        return np.asarray(similarities(batched(of_image, {"image": images}), texts))

    return cosines


def accuracy(model: Model, state: State, images: np.ndarray, labels: np.ndarray, rejects: bool = False) -> float:
    """Share of images uint8 [num, H, W, C] whose label, int [num], is the most probable of the dataset's classes."""
    logits = of_classifier(model, state, rejects=rejects, name="", digest="").logits(images)
    return float((logits.argmax(-1) == labels).mean())


def learned(
    images: np.ndarray, labels: np.ndarray, dataset: data.Dataset, seed: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """Trains a classifier, images -> labels int [num], on images uint8 [num, H, W, C] and their labels.

    Its architecture and training are those of an extractor that is trained on demand.
    """
    config = EXTRACTOR.config | {"decay_steps": STEPS}
    model = _classifier(config, images.shape[1:], dataset.spec.num_classes)
    examples = {"image": images, "label": labels.astype(np.int32)}
    state = fit(jax.random.key(seed), model, examples, STEPS, EXTRACTOR.batch_size, title="", progress=False)
    logits = of_classifier(model, state, name="", digest="").logits
    return lambda some: logits(some).argmax(-1)
