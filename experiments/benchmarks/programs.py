"""Every model's programs as a run compiles them, with the options that change them.

A case is a model, its config and its data, at sizes that compile in seconds. Nothing is computed: operands are shapes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import ShapeDtypeStruct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen import models
from jaxgen.data.mesh_features import sizes
from jaxgen.data.readers.gaussians import modes
from jaxgen.model import PyTree, Spec
from jaxgen.training import engine

from .flops import useful_flops

SEEDS, BATCH, MOST, EXAMPLES, CLASSES, SAMPLES = 2, 16, 10, 1000, 10, 8
"""Seeds, examples a step, steps a dispatch, training examples, classes, and samples a seed."""

WORDS, VOCABULARY = 5, 20
"""Words of a caption, and of the captions' vocabulary."""

RGB, POINT, MESH = (16, 16, 3), (2,), (4, 3)

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)
"""Triangles of a mesh."""


class Case(NamedTuple):
    """Configuration of a run."""

    model: str
    fields: Mapping[str, Any]  # of the model's Config; the rest have their defaults
    shape: tuple[int, ...] = (16, 16, 1)  # of an image, a point or a mesh
    precision: str = "float32"
    redrawn: bool = False  # each seed orders the data itself; images are mirrored and binarized anew each step
    devices: int = 1


CONVOLUTIONAL = {"features": 4, "latent_dim": 5, "smallest": 4}
MAXOUT = {"generator_units": 16, "discriminator_units": 8, "pieces": 2, "latent_dim": 5}
DENSE = {"generator_units": 16, "discriminator_units": 8, "pieces": 1, "latent_dim": 2, "optimizer": "adam"}
INFORMED = {"features": 4, "smallest": 4, "noise_dim": 3, "dense_units": 8, "code_units": 8}
GUIDED = {"code_dim": 3, "manifold_units": 8}
R1 = {"penalty": "zero_centered", "penalty_at": "real", "penalty_weight": 5.0, "normalization": "none"}
R2 = {"penalty": "zero_centered", "penalty_at": "fake", "loss": "minimax"}
WGAN_GP = {"loss": "wasserstein", "penalty": "one_centered", "normalization": "layer", "critic_steps": 2}
SPECTRAL = {"loss": "hinge", "spectral_norm": True, "normalization": "none"}
DECONVOLUTIONAL = {"maps": (4, 4), "hidden": 8}
ATTENTION = {"dim": 8, "heads": 2, "layers": 1}
TOKENS = {"dim": 32, "depths": (1, 1), "discriminator_dim": 16, "discriminator_depth": 1, "heads": 2, "latent_dim": 5}
MASKED = {"features": 4, "layers": 1, "first_kernel": 3, "head_features": 4}
QUANTIZED = {"features": 4, "residual_features": 4, "residual_blocks": 1, "dropout": 0.3}
PRIOR = {"dim": 8, "heads": 2, "blocks": 1}
GATED = {"gated_features": 4, "gated_layers": 1}
STACKED = {"features": 4, "word_dim": 4, "text_dim": 8, "latent_dim": 5, "condition_dim": 4}
AUGMENT = {"augment": ("color", "translation", "cutout"), "translation_ratio": 0.2, "cutout_probability": 0.3}
AVERAGED = {"average_half_life": 1000.0, "average_warmup": 0.1}

CASES = {
    "classifier": Case("classifier", {"features": 4, "embedding_dim": 8, "decay_steps": 100}),
    "classifier-logistic": Case("classifier", {"network": "logistic", "l2": 1e-3, "label_smoothing": 0.1}),
    "classifier-lenet": Case("classifier", {"network": "lenet", "features": 4, "embedding_dim": 8}),
    "classifier-vgg": Case("classifier", {"network": "vgg", "features": 4, "embedding_dim": 8}),
    "classifier-resnet": Case("classifier", {"network": "resnet", "features": 4, "blocks": 1}, precision="bfloat16"),
    "naive_bayes": Case("naive_bayes", {"likelihood": "bernoulli"}),
    "naive_bayes-gaussian": Case("naive_bayes", {"likelihood": "gaussian"}),
    "naive_bayes-categorical": Case("naive_bayes", {"likelihood": "categorical"}),
    "autoencoder": Case("autoencoder", CONVOLUTIONAL),
    "autoencoder-linear": Case(
        "autoencoder", {"network": "linear", "latent_dim": 5, "decay_steps": 100}, precision="bfloat16"
    ),
    "vae": Case("vae", CONVOLUTIONAL | {"likelihood": "bernoulli"}),
    "vae-conditional": Case(
        "vae",
        CONVOLUTIONAL
        | {"dense_units": 8, "conditional": True, "likelihood": "logistic", "warmup_steps": 100, "free_bits": 0.1},
        precision="bfloat16",
        redrawn=True,
    ),
    "vae-importance": Case(
        "vae",
        {"network": "mlp", "hidden": (8, 8), "latent_dim": 5, "likelihood": "gaussian", "deviation": "learned"}
        | {"importance_samples": 5, "stage_steps": 100},
    ),
    "vae-optimal": Case("vae", CONVOLUTIONAL | {"likelihood": "gaussian", "deviation": "optimal"}, RGB),
    "vaegan": Case("vaegan", CONVOLUTIONAL),
    "vaegan-prior": Case(
        "vaegan", CONVOLUTIONAL | {"discriminator_sees": "prior", "moves": "all"}, precision="bfloat16"
    ),
    "gan": Case("gan", MAXOUT),
    "gan-r2": Case(
        "gan", MAXOUT | R2 | {"generator_batch_norm": True, "clip": 1.0, "learning_rate": 0.05}, precision="bfloat16"
    ),
    "gan-points": Case("gan", DENSE | {"prior": "gaussian", "packing": 2, "unrolled": 1}, POINT),
    "dcgan": Case("dcgan", CONVOLUTIONAL),
    "dcgan-bfloat16": Case(
        "dcgan", CONVOLUTIONAL | {"kernel": 5, "l2": 2.5e-5, "batches": "joint"}, precision="bfloat16"
    ),
    "dcgan-r1": Case("dcgan", CONVOLUTIONAL | R1 | AUGMENT | {"average": 0.999}, RGB),
    "dcgan-wgan-gp": Case("dcgan", CONVOLUTIONAL | WGAN_GP | AVERAGED | {"drift": 1e-3}),
    "dcgan-spectral": Case("dcgan", CONVOLUTIONAL | SPECTRAL | {"consistency": 10.0}),
    "dcgan-devices": Case("dcgan", CONVOLUTIONAL, devices=4),
    "cgan": Case("cgan", CONVOLUTIONAL),
    "cgan-spectral": Case("cgan", CONVOLUTIONAL | SPECTRAL | {"kernel": 5}, precision="bfloat16"),
    "cgan-layer-norm": Case("cgan", CONVOLUTIONAL | {"normalization": "layer"}),
    "cgan-maxout": Case(
        "cgan",
        {"network": "maxout", "generator_units": (8, 8, 16), "discriminator_units": (8, 8, 8), "latent_dim": 5}
        | {"learning_rate": 0.05},
    ),
    "infogan": Case("infogan", INFORMED),
    "infogan-bfloat16": Case(
        "infogan", INFORMED | {"continuous": 0, "average": 0.999, "loss": "least_squares"}, precision="bfloat16"
    ),
    "meshvae": Case("meshvae", {"latent_dim": 3, "decay_steps": 100}, MESH),
    "meshvae-gradients": Case("meshvae", {"features": "gradients", "latent_dim": 3}, MESH),
    "meshvae-aligned": Case("meshvae", {"features": "aligned", "latent_dim": 3}, MESH, "bfloat16"),
    "dgdn": Case("dgdn", DECONVOLUTIONAL | {"codes": 2, "decay_steps": 100}, precision="bfloat16"),
    "dgdn-caption": Case(
        "dgdn",
        DECONVOLUTIONAL
        | {"predicts": "both", "label_head": "svm", "label_weight": 2.0, "caption_weight": 3.0, "units": 8}
        | {"decoding": "beam", "beams": 2, "likelihood": "gaussian", "deviation": "learned"},
        RGB,
    ),
    "dgdn-gumbel": Case(
        "dgdn",
        {"maps": (4, 4, 4), "kernels": (3, 2, 2), "pool": 2, "hidden": 8, "gradient": "gumbel", "temperature": 0.5}
        | {"draws": 1, "predicts": "caption", "blind": True, "units": 8, "likelihood": "bernoulli"}
        | {"decoding": "sampled"},
    ),
    "dgdn-nothing": Case("dgdn", DECONVOLUTIONAL | {"predicts": "nothing"}),
    "transformer": Case("transformer", ATTENTION | {"decay_steps": 100}, precision="bfloat16"),
    "transformer-label": Case(
        "transformer",
        ATTENTION | {"likelihood": "bernoulli", "patch": 2, "condition": "label", "top": 4, "dropout": 0.3},
    ),
    "transformer-caption": Case("transformer", ATTENTION | {"likelihood": "logistic", "condition": "caption"}, RGB),
    "pixelcnn": Case("pixelcnn", MASKED | {"decay_steps": 100}, precision="bfloat16"),
    "pixelcnn-original": Case(
        "pixelcnn",
        MASKED
        | {"network": "original", "likelihood": "categorical", "levels": 4, "top": 2, "conditional": True}
        | {"dropout": 0.3},
        RGB,
    ),
    "pixelcnn-mixture": Case("pixelcnn", MASKED | {"likelihood": "logistic", "mixtures": 2}, RGB),
    "pixelcnnpp": Case(
        "pixelcnnpp",
        {"features": 4, "layers": 1, "scales": 2, "likelihood": "logistic", "mixtures": 2, "decay_steps": 100}
        | {"conditional": True},
        RGB,
        "bfloat16",
    ),
    "pixelcnnpp-categorical": Case(
        "pixelcnnpp", {"features": 4, "layers": 1, "scales": 1, "likelihood": "categorical", "levels": 4, "top": 2}
    ),
    "pixelrnn": Case("pixelrnn", MASKED | {"decay_steps": 100}, precision="bfloat16"),
    "pixelrnn-row": Case(
        "pixelrnn",
        MASKED
        | {"network": "row", "likelihood": "categorical", "levels": 4, "top": 2, "conditional": True}
        | {"dropout": 0.3},
        RGB,
    ),
    "pixelrnn-mixture": Case("pixelrnn", MASKED | {"likelihood": "logistic", "mixtures": 2}),
    "vqvae": Case("vqvae", QUANTIZED | PRIOR | {"num_codes": 8, "decay_steps": 100}, precision="bfloat16"),
    "vqvae-cosine": Case(
        "vqvae",
        QUANTIZED | GATED | {"codebook": "cosine", "keep_unused": True, "prior": "pixelcnn", "condition": "label"},
        RGB,
    ),
    "vqvae-fsq": Case("vqvae", QUANTIZED | PRIOR | {"codebook": "fsq", "fsq_levels": (4, 3), "condition": "caption"}),
    "vqvae2": Case("vqvae2", QUANTIZED | PRIOR | GATED | {"num_codes": 8}, precision="bfloat16"),
    "vqvae2-label": Case("vqvae2", QUANTIZED | PRIOR | GATED | {"num_codes": 8, "condition": "label"}, RGB),
    "stackgan": Case("stackgan", STACKED | {"blocks": 1, "average": 0.999}, RGB, "bfloat16"),
    "stackgan-first": Case(
        "stackgan",
        STACKED | {"stages": "first", "augmentation": "training", "normalization": "layer", "halve_every": 100},
        (32, 32, 3),
    ),
    "stackgan-one": Case(
        "stackgan",
        STACKED
        | {"stages": "one", "augmentation": "none", "normalization": "none", "wrong_pairs": "none"}
        | {"discriminator_features": 6},
        RGB,
    ),
    "stackgan-deep": Case("stackgan", STACKED | {"scale": 4, "halvings": 2, "blocks": 1}, (32, 32, 3)),
    "transgan": Case(
        "transgan", TOKENS | {"generator_batch": 8, "rematerialize": True, "augment": ("color",)}, precision="bfloat16"
    ),
    "transgan-label": Case(
        "transgan",
        TOKENS
        | {
            "conditional": True,
            "normalization": "pixel",
            "whole": 8,
            "window": 4,
            "beta1": 0.5,
            "critic_steps": 1,
            "augment": (),
        },
        RGB,
    ),
    "mggan": Case("mggan", CONVOLUTIONAL | GUIDED),
    "mggan-layer-norm": Case("mggan", CONVOLUTIONAL | GUIDED | {"normalization": "layer", "kernel": 5, "l2": 2.5e-5}),
    "mggan-spectral": Case("mggan", CONVOLUTIONAL | GUIDED | SPECTRAL),
    "mggan-points": Case("mggan", DENSE | GUIDED | {"encoder_units": 8}, POINT, "bfloat16"),
    "mggan-points-unrolled": Case(
        "mggan",
        {"generator_units": 16, "discriminator_units": 8, "latent_dim": 2, "learning_rate": 0.05, "encoder_units": 8}
        | GUIDED
        | {"prior": "gaussian", "packing": 2, "unrolled": 1, "generator_batch_norm": True},
        POINT,
    ),
}
CASES |= {
    name: Case(name, {}, precision="bfloat16")
    for name in models.MODELS
    if name not in {case.model for case in CASES.values()}
}


class Program(NamedTuple):
    """A jitted function and its operands."""

    name: str  # the phase's, or "sample"
    jitted: Callable
    operands: tuple  # shapes, and static arguments' values
    state: PyTree  # the state in `operands`
    useful_flops: int  # of one step of all seeds, or of all their samples


def told(case: Case) -> Spec:
    """Returns the data's Spec for a case's model."""
    name, dtype = {POINT: ("point", np.float32), MESH: ("mesh", np.float32)}.get(case.shape, ("image", np.uint8))
    told = {"label": ShapeDtypeStruct((), np.int32), "caption": ShapeDtypeStruct((WORDS,), np.int32)}
    if case.shape == MESH:
        told |= {kind: ShapeDtypeStruct((size,), np.float32) for kind, size in sizes(TETRAHEDRON, MESH[0]).items()}
    return Spec(
        {name: ShapeDtypeStruct(case.shape, dtype), **told},
        EXAMPLES,
        num_classes=CLASSES,
        num_words=VOCABULARY,
        mean=np.full(case.shape, 0.3),
        faces=TETRAHEDRON if case.shape == MESH else None,
        reference=np.eye(4, 3, dtype=np.float32) if case.shape == MESH else None,
        mixture=modes("grid") if case.shape == POINT else None,
        batch_size=BATCH,
        compute_dtype=np.dtype(case.precision),
    )


def programs(case: Case, how: str, devices: Mesh | None = None) -> list[Program]:
    """Makes the programs of a case: each phase's steps, and sampling if the model has a sampler and samples no meshes.

    Args:
        case: one of `CASES`.
        how: execution of the seed axis, a value of `engine.AXIS`.
        devices: the run's devices; None to leave the programs free to be lowered for any platform.
    """
    module, spec = models.load(case.model), told(case)
    model = module.make(module.Config(**case.fields), spec)
    batch = engine.blank_batch(spec, model.needs, BATCH)
    streams = jax.eval_shape(partial(engine.all_streams, tuple(range(SEEDS))))
    states = jax.eval_shape(engine.of_all_seeds(model.init), streams.init)
    key, state = jax.tree.map(lambda leaf: ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (streams.train, states))
    train_keys, sample_keys, states, alive = _placed(
        devices, (streams.train, streams.sample, states, ShapeDtypeStruct((SEEDS,), bool)), "seeds"
    )
    data = {name: ShapeDtypeStruct((EXAMPLES, *spec.entries[name].shape), batch[name].dtype) for name in model.needs}
    rows = ((SEEDS,) if case.redrawn else ()) + (MOST,)
    anew = None
    if case.redrawn:
        bits = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
        anew = engine.Anew(ShapeDtypeStruct((*rows, BATCH), bool), bits)
    operands = (
        *(train_keys, states, alive, _placed(devices, data)),
        *(ShapeDtypeStruct((*rows, BATCH), np.int32), ShapeDtypeStruct((MOST, BATCH), np.float32)),
        *(anew, ShapeDtypeStruct((), np.int32)),
    )

    found = []
    for phase in model.phases:
        jitted = engine.chunk_program(phase, how, case.precision, devices, case.redrawn)
        useful = SEEDS * useful_flops(phase.step, key, state, batch)
        found.append(Program(phase.name, jitted, operands, states, useful))
    if model.sampler and case.shape != MESH:  # a call of the host is lowered only for the device at hand
        asked = {name: ShapeDtypeStruct((SAMPLES, *spec.entries[name].shape), np.int32) for name in model.conditions}

        def draw(key, state, asked):
            return model.sampler.draw(key, state, SAMPLES, asked)

        useful = SEEDS * useful_flops(draw, key, state, asked, trips=1)  # XLA too counts a loop of unknown length once
        shares = {name: ShapeDtypeStruct((SEEDS, *entry.shape), entry.dtype) for name, entry in asked.items()}
        operands = (sample_keys, states, SAMPLES, _placed(devices, shares, "seeds"))
        found.append(Program("sample", engine.sample_program(model.sampler), operands, states, useful))
    return found


def _placed(devices: Mesh | None, tree: PyTree, axis: str | None = None) -> PyTree:
    """Gives shapes the sharding of `engine.placed`: on a run's devices, the first axis divided along `axis`."""
    if devices is None:
        return tree
    share = NamedSharding(devices, PartitionSpec(axis))
    return jax.tree.map(lambda leaf: ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=share), tree)
