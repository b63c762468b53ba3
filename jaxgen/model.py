"""The contract that every model of jaxgen keeps: pure functions of (key, state, batch).

A model is one file with two names: `Config`, a frozen dataclass whose field comments are its help
texts, and `make(config, spec) -> Model`, which closes over its Flax modules and optimizers. The
training loop, the evaluators and the command line know nothing of a model but what stands here.

A batch is a dict of arrays with a leading batch axis, as TFDS yields it:

    image    uint8   [batch, height, width, channels], 0 to 255
    label    int32   [batch], 0 to num_classes - 1
    caption  int32   [batch, words], 0 where a caption is shorter
    point    float32 [batch, 2]
    mesh     float32 [batch, vertices, 3]
    weight   float32 [batch], 1 for an example and 0 for the padding of a last partial batch

Keys are typed (`jax.random.key`), come first, and are used once.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

Array = jax.Array
Key = jax.Array
PyTree = Any
Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]
Condition = Mapping[str, Array]
"""The batch entries that samples are asked to satisfy, e.g. {"label": int32 [num]}."""

BINARY_THRESHOLD = 128
"""A pixel of at least this value is 1 wherever images are binarised."""

HIGH_QUALITY = 3
"""A point of a mixture of Gaussians is of high quality nearer to its mode's centre than this many deviations."""

FEW = 0.5
"""Samples that fall on a smaller share of the known modes have collapsed."""


class State(NamedTuple):
    """All that moves while a model is trained; donated to every step.

    Outside the model each leaf has a leading seed axis.
    """

    step: Array  # int32 [], the training steps taken
    params: PyTree  # what the optimizers move, one entry a player where there are several
    opt_state: PyTree = ()
    extra: PyTree = ()  # what else moves: BatchNorm's running averages, codebooks, averaged weights


class Phase(NamedTuple):
    """A stretch of training with a step of its own; a program of its own.

    It lasts `steps` steps, or `passes` passes over the training data, and without either until
    the run ends. Batches of an unbounded or step-bounded phase come from an endless stream of
    shuffled epochs and are always full (one may span the end of an epoch, so nothing is dropped);
    in a phase of `passes` every example is seen exactly that often, and the last batch is filled
    up with examples of weight 0.
    """

    name: str
    step: Callable[[Key, State, Batch], tuple[State, Metrics]]  # metrics: flat {name: scalar}
    steps: int | None = None
    passes: int | None = None
    enter: Callable[[Key, State, Any], State] | None = None
    """(key, state, batches) -> state, once before the phase's first step; `batches` iterates over
    the training data once. Freezes a net, extracts codes, starts a codebook."""


class Likelihood(NamedTuple):
    """What `log_prob` measures. Only log-likelihoods of the same space can be compared."""

    space: str  # "binary", "uint8", or "continuous"
    kind: str  # "exact" or "bound" (a lower bound, in expectation over its key)
    note: str = ""  # what a reader of the number must know, e.g. the binarisation's threshold


class Prior(NamedTuple):
    """p(z) of the latents that `decode` takes, where these are one array: z is float32 [num, ...]."""

    sample: Callable[[Key, State, int], Array]  # (key, state, num) -> z
    kind: Literal["gaussian", "uniform"]  # each number of z is of N(0, 1), or uniform in (-1, 1)


class Codes(NamedTuple):
    """Latents that `decode` takes of which some are codes that the model infers of images.

    z is float32 [num, noise + categories + continuous]: first noise, then a one-hot categorical code, then continuous
    codes, each uniform in (-1, 1).
    """

    noise: int
    categories: int
    continuous: int
    sample: Callable[[Key, State, int], Array]  # (key, state, num) -> z
    infer: Callable[[State, Batch], Array]  # (state, batch) -> logits [batch, categories] of the categorical code


class Latent(NamedTuple):
    """The densities of a model p(x, z) = p(z) p(x|z) with an inference network q(z|x), in nats.

    z is float32 [num, ...]. A density is float32 [num], each example's from its own z alone. The mean of
    q(z|x) is `encode`'s, and log p(x|z) of the space of `likelihood`.
    """

    sample_prior: Callable[[Key, State, int], Array]  # (key, state, num) -> z
    log_prior: Callable[[State, Array], Array]  # (state, z) -> log p(z)
    sample_posterior: Callable[[Key, State, Batch], tuple[Array, Array]]
    """(key, state, batch) -> z, one drawn from q(z|x) for each example, and log q(z|x)."""
    log_likelihood: Callable[[State, Batch, Array], Array]  # (state, batch, z) -> log p(x|z)


class Model(NamedTuple):
    """A model as pure functions. None stands where a model has no such function."""

    init: Callable[[Key, Batch], State]
    phases: tuple[Phase, ...]
    needs: tuple[str, ...]  # the batch entries it reads, e.g. ("image", "label")
    batch_parts: int = 1  # equal parts that a step divides its batch into

    sample: Callable[[Key, State, int, Condition | None], Batch] | None = None
    """(key, state, num, condition=None) -> batch-like dict, e.g. {"image": uint8 [num, H, W, C]}.
    A conditional model returns the condition beside the image; None draws it as the training data
    has it."""
    conditions: tuple[str, ...] = ()  # the entries `sample` can be conditioned on
    sampling: str = ""  # what the samples show (means or draws), stored with every score

    log_prob: Callable[[Key, State, Batch], Array] | None = None  # -> float32 [batch], nats
    likelihood: Likelihood | None = None  # what `log_prob` measures
    latent: Latent | None = None  # from which tighter bounds are taken: jaxgen.evaluation.likelihood

    encode: Callable[[Key, State, Batch], PyTree] | None = None  # -> latents, leading batch axis
    decode: Callable[..., Array] | None = None  # (state, latents) -> floats in [0, 1]
    """With a third argument, the condition [num, ...], where the model has `conditions`."""
    prior: Prior | None = None  # of the latents: paths between them are drawn by `jaxgen sample`
    codes: Codes | None = None  # of the latents, where some are codes that it infers
    classify: Callable[[State, Batch], Array] | None = None  # -> logits [batch, num_classes]

    worries: Callable[[Mapping[str, float]], list[str]] = lambda metrics: []
    """(means of a step's metrics) -> what they give to worry about, a line each: training says each once a seed."""

    precisions: tuple[str, ...] = ("float32",)
    """The dtypes that `spec.compute_dtype` may name, "bfloat16" among them where the layers heed it."""


class Spec(NamedTuple):
    """What a model's `make` is told of the data, and of how to compute."""

    entries: Mapping[str, jax.ShapeDtypeStruct]  # of one example: no batch axis, no `weight`
    num_examples: int  # of the training data
    num_classes: int | None = None
    class_shares: np.ndarray | None = None  # float64 [num_classes], of the training data; sum 1
    mean: np.ndarray | None = None  # float64 [H, W, C] in [0, 1], the training images' mean
    num_words: int | None = None  # ids of the captions' vocabulary, padding (0) and unknown (1) among them
    faces: np.ndarray | None = None  # int32 [faces, 3], the vertices of each triangle of the meshes
    mixture: tuple[np.ndarray, float] | None = None
    """Of points of a known mixture of Gaussians: centres float64 [modes, 2], the deviation on both axes."""
    compute_dtype: np.dtype = np.dtype("float32")
    """What layers compute in. Parameters, averages, losses and optimizers are float32 whatever it is."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels); raises KeyError where the data has no images."""
        return self.entries["image"].shape
