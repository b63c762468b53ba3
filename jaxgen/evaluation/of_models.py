"""Scores of a model's seeds that need no samples: one function per family of metrics.

Each takes (model, keys [seeds], state, dataset, scoring), where every leaf of `state` has a leading seed axis, and
returns the scores of all seeds per column.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data import Dataset, pipeline
from jaxgen.data.vocabulary import UNKNOWN
from jaxgen.deformation import KINDS, Deformation, Kind
from jaxgen.evaluation.extractor import BATCH
from jaxgen.evaluation.options import Scoring
from jaxgen.metrics import evidence
from jaxgen.metrics.codes import code_error
from jaxgen.metrics.diversity import SIDE
from jaxgen.metrics.mesh_errors import box_diagonal, middle_changes, pca_reconstructed, vertex_errors
from jaxgen.metrics.reconstruction import reconstruction_errors
from jaxgen.metrics.sentences import bleu, scenes, truth
from jaxgen.model import Array, Latents, Model, State
from jaxgen.nn.image import from_unit, to_binary
from jaxgen.training.engine import kept, of_seed, over_seeds

Scores = dict[str, list[float]]

AIS_EXAMPLES = 100
"""Default number of test images for annealed importance sampling."""

PAIRS = 60
"""Pairs of test meshes with a mesh between them."""

NOBODYS = 2**31 - 1
"""Id that stands for words outside of the vocabulary in references: no written word equals it."""

IN_TURN = 20
"""Test images per batch in metrics that draw many latents per image."""


def log_prob(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Mean log-likelihood, exact or a bound, as the model defines it."""
    values = _over_test(model.likelihood.log_prob, model, keys, state, dataset).mean(axis=1)
    scores = {f"log_prob_{model.likelihood.space}": values.tolist()}
    if model.likelihood.space == "uint8":
        dimensions = int(np.prod(dataset.spec.image_shape))
        bits = [evidence.bits_per_dimension(x, dimensions, "uint8") if np.isfinite(x) else np.nan for x in values]
        scores["bits_per_dimension"] = [float(number) for number in bits]
    return scores


def accuracy(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Share of the test images that are classified correctly."""
    labels = _over_test(_keyless(model.predict["label"]), model, keys, state, dataset).argmax(-1)
    known = np.asarray(dataset.test["label"][:]) >= 0
    return {"accuracy": (labels == dataset.test["label"])[:, known].mean(axis=1).tolist()}


def codes(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Error of the inferred categorical code as a classifier."""
    infer = _keyless(model.predict["code"])
    train, test = (_over(infer, model, keys, state, examples).argmax(-1) for examples in (dataset.train, dataset.test))
    labels = dataset.train["label"][:], dataset.test["label"][:]
    return {"code_error": [code_error(a, labels[0], b, labels[1]) for a, b in zip(train, test, strict=True)]}


def written_captions(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Nats a word and perplexity of the test captions, each caption's end a word, and BLEU-4 of written ones."""
    given = np.asarray(dataset.test["caption"][:])
    nats = -_over_test(_keyless(model.predict["word_log_prob"]), model, keys, state, dataset)
    each = nats.sum(axis=(1, 2)) / ((given > 0).sum() + given.any(axis=1).sum())
    references = [words[words > 0].tolist() for words in np.where(given == UNKNOWN, NOBODYS, given)]
    made = _over_test(_keyless(model.predict["caption"]), model, keys, state, dataset)
    texts = [[words[words > 0].tolist() for words in of_seed] for of_seed in made]
    return {
        "caption_nats": each.tolist(),
        "caption_perplexity": np.exp(each).tolist(),
        "bleu": [bleu(of_seed, references) for of_seed in texts],
    }


def caption_truth(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Shares of the captions written of test images that are true, distinct and of all detail, and their length."""
    made = _over_test(_keyless(model.predict["caption"]), model, keys, state, dataset)
    seen = scenes(dataset.test["image"][:])
    found = [truth(seen, dataset.vocabulary.decode(of_seed)) for of_seed in made]
    return {name: [each[name] for each in found] for name in found[0]}


def iwae(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Mean importance-weighted bound of the log-likelihood."""

    def bound(key, state, batch):
        return evidence.importance_bound(key, model.latents, state, batch, samples=scoring.importance_samples)

    means = _in_turn(bound, model, keys, state, dataset, scoring.examples)
    return {f"iwae_{model.likelihood.space}": means}


def ais(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Mean log-likelihood by annealed importance sampling, and harmonic mean of the effective number of chains.

    It is low if the chains of some images fail, which are those that lower the mean log-likelihood.
    """

    def bound(key, state, batch):
        found = evidence.annealed_importance(key, model.latents, state, batch, temperatures=scoring.temperatures)
        return found._replace(effective=1 / found.effective)

    means = _in_turn(bound, model, keys, state, dataset, scoring.examples or AIS_EXAMPLES)
    return {
        f"ais_{model.likelihood.space}": [each.log_prob for each in means],
        "ais_chains": [1 / each.effective for each in means],
    }


def active_units(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Number of latents whose posterior mean varies over the test images."""
    means = _over_test(_keyless(model.latents.encode), model, keys, state, dataset)
    each = [seed.reshape(len(seed), -1) for seed in means]
    active = [evidence.active_units(one).active if np.isfinite(one).all() else np.nan for one in each]
    return {"active_units": [float(number) for number in active]}


def rate_distortion(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Mean rate and mean distortion."""
    values = _over_test(_rate_and_distortion(model.latents), model, keys, state, dataset).mean(axis=1)
    return {"rate": values[:, 0].tolist(), f"distortion_{model.likelihood.space}": values[:, 1].tolist()}


def reconstruction(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Mean errors of decoded codes; for a model of bits, against the images as bits."""
    images = _over_test(_reconstruction(model.latents, model.conditions), model, keys, state, dataset)
    real, of = dataset.test["image"][:], ""
    if model.likelihood and model.likelihood.space == "binary":
        real, of = (255 * np.asarray(to_binary(real))).astype(np.uint8), "_binary"
    found = [reconstruction_errors(real, each) for each in images]
    names = ("mse", "psnr", "ssim") if min(dataset.spec.image_shape[:2]) >= SIDE else ("mse", "psnr")
    return {name + of: [float(getattr(each, name).mean()) for each in found] for name in names}


def vertex_error(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Mean vertex error of decoded codes, and of PCA with as many components, in percent of the box diagonal."""

    def reconstructed(key, state, batch):
        asked = {name: batch[name] for name in model.conditions}
        codes = model.latents.encode(state, batch)
        return codes.reshape(len(codes), -1), model.latents.decode(state, codes, asked)["mesh"]

    def meshes(*given):
        return reconstructed(*given)[1]

    first = next(pipeline.batches({name: dataset.test[name] for name in model.needs}, 1))
    own = of_seed(state, 0)
    latents = jax.eval_shape(reconstructed, keys[0], own, first)[0].shape[1]
    percent = 100 / box_diagonal(dataset.train["aligned"].mean(0).reshape(-1, 3))
    real, seeds = dataset.test["mesh"][:], len(keys)
    made = _over_test(meshes, model, keys, state, dataset)
    scores = {"vertex_error": [float(percent * vertex_errors(real, each).mean()) for each in made]}
    kinds: dict[str, Kind] = {"vertex_error_pca": "aligned"}
    if features := [kind for kind in KINDS if kind in model.needs and kind != "aligned"]:
        kinds["vertex_error_pca_features"] = features[0]
    for column, kind in kinds.items():
        found = pca_reconstructed(dataset.train[kind], dataset.test[kind], latents)
        back = Deformation(dataset.spec.reference, dataset.spec.faces, kind).meshes(found)
        scores[column] = [float(percent * vertex_errors(real, back).mean())] * seeds
    return scores


def mesh_paths(model: Model, keys: Array, state: State, dataset: Dataset, scoring: Scoring) -> Scores:
    """Changes of edge lengths and volumes in the middle of decoded paths, and of straight paths of vertices."""
    codes = _over_test(_keyless(model.latents.encode), model, keys, state, dataset)
    rng = np.random.Generator(np.random.Philox(scoring.sampling_seed))
    num = codes.shape[1]
    pairs = np.stack([rng.permutation(num)[:2] for _ in range(PAIRS)], axis=1)
    ends, faces = codes[:, pairs], dataset.spec.faces  # [seeds, 2, pairs, latents]
    rows = np.concatenate([ends, ends.mean(1, keepdims=True)], axis=1).astype(np.float32)
    decode = jax.jit(jax.vmap(lambda state, z: model.latents.decode(state, z, {})["mesh"]))
    made = np.asarray(decode(state, rows.reshape(len(rows), -1, *rows.shape[3:])), np.float64)
    made = made.reshape(len(rows), 3, PAIRS, *made.shape[2:])
    found = [middle_changes(each[:2], each[2], faces) for each in made]
    straight = dataset.test["aligned"][pairs].reshape(2, PAIRS, -1, 3).astype(np.float64)
    straight = middle_changes(straight, straight.mean(0), faces)
    scores = {}
    for i, name in enumerate(("edges", "volume")):
        scores[f"path_{name}"] = [float(each[i].mean()) for each in found]
        scores[f"straight_{name}"] = [float(straight[i].mean())] * len(keys)
    return scores


# Functions (key, state, batch) of one seed: the same one again for the same model, so that they are compiled once


@kept
def _keyless(function: Callable) -> Callable:
    return lambda key, state, batch: function(state, batch)


@kept
def _rate_and_distortion(latents: Latents) -> Callable:
    return lambda *given: jnp.stack(evidence.rate_distortion(given[0], latents, *given[1:]), axis=-1)


@kept
def _reconstruction(latents: Latents, conditions: tuple[str, ...]) -> Callable:
    def reconstructed(key, state, batch):
        asked = {name: batch[name] for name in conditions}
        return from_unit(latents.decode(state, latents.encode(state, batch), asked)["image"])

    return reconstructed


def _over_test(function: Callable, model: Model, keys: Array, state: State, dataset: Dataset) -> np.ndarray:
    """Applies `function` (key, state, batch) -> [batch, ...] for every seed to all test examples: [seeds, num, ...]."""
    return _over(function, model, keys, state, dataset.test)


def _over(function: Callable, model: Model, keys: Array, state: State, examples: Mapping[str, Any]) -> np.ndarray:
    """Applies it to all examples of a split."""
    jitted = over_seeds(function, (0, 0, None))
    entries = {name: examples[name] for name in model.needs}
    rows = [
        jax.device_get(jitted(jax.vmap(jax.random.fold_in, (0, None))(keys, i), state, batch))
        for i, batch in enumerate(pipeline.batches(entries, BATCH))
    ]
    values = np.concatenate(rows, axis=1)[:, : len(next(iter(entries.values())))]
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _in_turn(
    function: Callable, model: Model, keys: Array, state: State, dataset: Dataset, num: int | None
) -> list[Any]:
    """Means of a program (key, state, batch) -> [batch], or a tuple of them, over `num` evenly spaced test examples.

    Seed by seed, each a float or such a tuple.
    """
    total = len(dataset.test[dataset.spec.subject])
    num = min(num or total, total)
    spaced = np.arange(num) * total // num  # the first ones may be unrepresentative: MNIST's are by neater writers
    entries = {name: dataset.test[name][spaced] for name in model.needs}
    means, state = [], jax.device_put(state)  # once, not for each seed
    for seed, key in enumerate(keys):
        own = of_seed(state, seed)
        batches = enumerate(pipeline.batches(entries, IN_TURN))
        rows = [jax.device_get(function(jax.random.fold_in(key, i), own, batch)) for i, batch in batches]
        means.append(jax.tree.map(lambda *parts: float(np.concatenate(parts)[:num].astype(np.float64).mean()), *rows))
    return means
