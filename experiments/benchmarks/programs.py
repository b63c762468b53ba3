"""The programs of every model as a run hands them to a compiler, for the options that change them.

A case is a model, its config and its data, of sizes that compile in seconds. Nothing is computed: operands are shapes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import ShapeDtypeStruct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen import models
from jaxgen.data.readers.gaussians import modes
from jaxgen.model import PyTree, Spec
from jaxgen.training import engine

from .flops import useful_flops

SEEDS, BATCH, MOST, EXAMPLES, CLASSES, SAMPLES = 2, 16, 10, 1000, 10, 8
"""Seeds, examples a step, steps of one dispatch, training examples, their classes, and samples a seed."""

RGB, POINT = (16, 16, 3), (2,)


class Case(NamedTuple):
    """A run."""

    model: str
    fields: Mapping[str, Any]  # of the model's Config; the rest have their defaults
    shape: tuple[int, ...] = (16, 16, 1)  # of an image, or of a point
    precision: str = "float32"
    redrawn: bool = False  # each seed has its own order of the data; images are mirrored and drawn as bits anew
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
AUGMENT = {"augment": ("color", "translation", "cutout")}

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
        CONVOLUTIONAL | {"conditional": True, "likelihood": "logistic", "warmup_steps": 100, "free_bits": 0.1},
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
    "dcgan-wgan-gp": Case("dcgan", CONVOLUTIONAL | WGAN_GP),
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


class Program(NamedTuple):
    """A jitted function, and what it is called with."""

    name: str  # of the phase, or sample
    jitted: Callable
    operands: tuple  # shapes; what is static as it is
    state: PyTree  # that of `operands`
    useful_flops: int  # of one step of all seeds, or of their samples


def told(case: Case) -> Spec:
    """What the model of a case is told of its data."""
    name, dtype = ("point", np.float32) if case.shape == POINT else ("image", np.uint8)
    return Spec(
        {name: ShapeDtypeStruct(case.shape, dtype), "label": ShapeDtypeStruct((), np.int32)},
        EXAMPLES,
        num_classes=CLASSES,
        mean=np.full(case.shape, 0.3),
        mixture=modes("grid") if case.shape == POINT else None,
        batch_size=BATCH,
        compute_dtype=np.dtype(case.precision),
    )


def programs(case: Case, how: str, devices: Mesh | None = None) -> list[Program]:
    """The programs of a case: each phase's steps, and samples where the model has them.

    Args:
        case: one of `CASES`.
        how: the seed axis runs, as of `engine.AXIS`.
        devices: of the run, which the programs are for; without them, for any that they are lowered for.
    """
    module, spec = models.load(case.model), told(case)
    model = module.make(module.Config(**case.fields), spec)
    batch = engine.blank_batch(spec, model.needs, BATCH)
    streams = jax.eval_shape(partial(engine.all_streams, tuple(range(SEEDS))))
    states = jax.eval_shape(partial(engine.initial_state, model), streams.init)
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
        jitted = engine.chunk_program(phase, how, devices, case.redrawn)
        useful = SEEDS * useful_flops(phase.step, key, state, batch)
        found.append(Program(phase.name, jitted, operands, states, useful))
    if model.sampler:
        asked = {name: ShapeDtypeStruct((SAMPLES, *spec.entries[name].shape), np.int32) for name in model.conditions}
        useful = SEEDS * useful_flops(
            lambda key, state, asked: model.sampler.draw(key, state, SAMPLES, asked), key, state, asked
        )
        shares = {name: ShapeDtypeStruct((SEEDS, *entry.shape), entry.dtype) for name, entry in asked.items()}
        operands = (sample_keys, states, SAMPLES, _placed(devices, shares, "seeds"))
        found.append(Program("sample", engine.sample_program(model), operands, states, useful))
    return found


def _placed(devices: Mesh | None, tree: PyTree, axis: str | None = None) -> PyTree:
    """Shapes as `engine.placed` puts arrays: on a run's devices, the first axis divided among them."""
    if devices is None:
        return tree
    share = NamedSharding(devices, PartitionSpec(axis))
    return jax.tree.map(lambda leaf: ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=share), tree)
