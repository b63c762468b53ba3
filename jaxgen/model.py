"""The interface of every model of jaxgen: pure functions of (key, state, batch).

A model is one file with two names: `Config`, a frozen dataclass whose field comments are its help texts, and
`make(config, spec) -> Model`, which closes over its Flax modules and optimizers. `make` raises `UserError` for a
config that cannot be run on the data. The training loop, the evaluators, the pictures and the command line use only
this interface.

A batch is a dict of arrays with a leading batch axis, as TFDS yields it:

    image    uint8   [batch, height, width, channels], 0 to 255
    point    float32 [batch, 2]
    mesh     float32 [batch, vertices, 3]
    rimd, gradients, aligned  float32 [batch, features], of meshes (`jaxgen.deformation`)
    label    int32   [batch], 0 to num_classes - 1; -1 if the label is not known
    caption  int32   [batch, words], 0 past a caption's end; all 0 if there is none
    weight   float32 [batch], 1 for an example and 0 for the padding of a last partial batch

Keys are typed (`jax.random.key`), come first, and are used once.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
PyTree = Any
Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]
Condition = Mapping[str, Array]
"""Batch entries that samples have to satisfy, e.g. {"label": int32 [num]}; {} if there are none."""

Space: TypeAlias = Literal["binary", "uint8", "continuous"]
"""Examples of a log-likelihood: bits, the 256 levels, or a density."""

SUBJECTS = ("image", "point", "mesh")
"""Entries that can be the example itself; other entries describe it."""

BINARY_THRESHOLD = 128
"""Pixels of at least this value are 1 in binarized images."""

HIGH_QUALITY = 3
"""Standard deviations from a mode's center within which a point of a Gaussian mixture is of high quality."""

FEW = 0.5
"""Share of the known modes; samples that cover a smaller share have collapsed."""


class State(NamedTuple):
    """Everything that changes during training; donated to every step.

    Outside the model every leaf has a leading seed axis.
    """

    step: Array  # int32 [], training steps taken
    params: PyTree  # updated by the optimizers; one entry per player if there are several
    opt_state: PyTree = ()
    extra: PyTree = ()  # everything else that changes: BatchNorm's running averages, codebooks, averaged weights


class Phase(NamedTuple):
    """A stretch of training with its own step.

    It lasts `steps` steps, or `passes` passes over the training data, or else until the run ends. Batches of a phase
    without `passes` come from an endless stream of shuffled epochs and are always full (one may span the end of an
    epoch, so nothing is dropped). A phase with `passes` sees every example exactly `passes` times, and pads the last
    batch with examples of weight 0.
    """

    name: str
    step: Callable[[Key, State, Batch], tuple[State, Metrics]]  # metrics: flat {name: scalar}
    steps: int | None = None
    passes: int | None = None
    enter: Callable[[Key, State, Any], State] | None = None
    """(key, state, batches) -> state, called once before the phase's first step; `batches` iterates over the training
    data once. It freezes a network, extracts codes or initializes a codebook."""


class Sampler(NamedTuple):
    """Sampling from a model."""

    draw: Callable[[Key, State, int, Condition], Batch]
    """(key, state, num, condition) -> generated entries, [num, ...], e.g. {"image": uint8 [num, H, W, C]}.
    The caller draws `condition` from the training data; it has the entries of `conditions`, [num, ...]."""
    conditions: tuple[str, ...] = ()
    note: str = ""  # what samples are (means or draws), stored with every score
    complete: Callable[[Key, State, Batch, int, Condition], Batch] | None = None
    """(key, state, batch, rows, condition) -> entries drawn given the first `rows` rows of the batch's images."""
    rows_at_once: int = 1  # `rows` must be a multiple of it


class Likelihood(NamedTuple):
    """The log-likelihood of examples. Only log-likelihoods in the same space can be compared."""

    log_prob: Callable[[Key, State, Batch], Array]  # -> float32 [batch], nats
    space: Space
    kind: Literal["exact", "bound"]  # bound: a lower bound, in expectation over its key
    note: str = ""  # what is needed to interpret the number, e.g. the binarization's threshold


class Part(NamedTuple):
    """Consecutive elements of a latent vector; a one-hot vector if `kind` is categorical."""

    name: str
    size: int
    kind: Literal["gaussian", "uniform", "categorical"]


class Prior(NamedTuple):
    """Prior p(z) of the latents that `Latents.decode` takes."""

    sample: Callable[[Key, State, int], PyTree]  # (key, state, num) -> z, leading axis num
    kind: Literal["gaussian", "uniform", "discrete", "mixed"]
    """gaussian, uniform: each element of z is from N(0, 1), or uniform in (-1, 1). discrete: z are integers. mixed: z
    is a vector of the `parts`."""
    log_prob: Callable[[State, PyTree], Array] | None = None  # (state, z) -> float32 [num], nats
    parts: tuple[Part, ...] = ()
    num_codes: int | None = None  # of discrete: z are from 0 on, less than this


class Latents(NamedTuple):
    """Latents z of a model: any pytree of arrays with a leading batch axis, e.g. one array float32 [batch, d].

    `prior.log_prob`, `posterior` and `log_likelihood` define a model p(x, z) = p(z) p(x|z) with an inference network
    q(z|x), for tighter bounds of log p(x) (`jaxgen.metrics.evidence`). Log densities are float32 [batch] in nats, each
    computed from the example's own z alone.
    """

    decode: Callable[[State, PyTree, Condition], Batch]
    """(state, z, condition) -> entries; images are floats in [0, 1]. `condition` is as in `Sampler.draw`."""
    prior: Prior
    encode: Callable[[State, Batch], PyTree] | None = None  # -> z; the mean of q(z|x)
    posterior: Callable[[Key, State, Batch], tuple[PyTree, Array]] | None = None
    """(key, state, batch) -> (z, log q(z|x)), with one z drawn from q(z|x) for each example."""
    log_likelihood: Callable[[State, Batch, PyTree], Array] | None = None
    """(state, batch, z) -> log p(x|z), in the space of the model's `likelihood`."""
    between: Callable[[State, PyTree, Condition, Condition, Array], Batch] | None = None
    """(state, z, condition, other, share float32 [num]) -> entries of z given what lies between two conditions; those
    of a share of 0 are given the first, those of 1 the other."""
    levels: tuple[str, ...] = ()
    """Entries of z from coarse to fine, if z is a dict of levels: `decode` also takes the first ones alone."""


class Model(NamedTuple):
    """A model as pure functions. Functions that a model lacks are None, or have no entry."""

    init: Callable[[Key], State]
    phases: tuple[Phase, ...]
    needs: tuple[str, ...]  # the batch entries it reads, e.g. ("image", "label")
    sampler: Sampler | None = None
    likelihood: Likelihood | None = None
    latents: Latents | None = None
    predict: Mapping[str, Callable[[State, Batch], Array]] = MappingProxyType({})
    """Predictions from a batch by name: "label", logits [batch, num_classes]; "code", logits [batch, categories] of a
    categorical code; "features", an embedding [batch, dimensions]; "caption", a caption in words int32 [batch, words];
    "word_log_prob", log p of each word of the batch's caption given the words before it, and of its end, nats [batch,
    words + 1], 0 past the end."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """The batch entries that condition samples and decoded latents."""
        return self.sampler.conditions if self.sampler else ()


class Spec(NamedTuple):
    """Description of the data, and of how to compute, for `make`."""

    entries: Mapping[str, jax.ShapeDtypeStruct]  # of one example: no batch axis, no `weight`
    num_examples: int  # of the training data
    num_classes: int | None = None
    mean: np.ndarray | None = None  # float64 [H, W, C] in [0, 1], the training images' mean
    binary: bool = False  # every pixel is 0 or 255, as in binarized images
    num_words: int | None = None  # ids in the captions' vocabulary, including padding (0) and unknown (1)
    faces: np.ndarray | None = None  # int32 [faces, 3], the vertices of each triangle of the meshes
    reference: np.ndarray | None = None  # float32 [vertices, 3], the mesh that features of meshes are relative to
    mixture: tuple[np.ndarray, float] | None = None
    """The Gaussian mixture that points come from, if known: centers float64 [modes, 2], and the standard deviation on
    both axes."""
    bounds: np.ndarray | None = None  # float32 [2, 2], the minimum and maximum coordinates of the training points
    batch_size: int = 64  # of a training step
    compute_dtype: np.dtype = np.dtype("float32")
    """Dtype that layers compute in. Parameters, averages, losses and optimizers are always float32."""

    @property
    def subject(self) -> str:
        """Name of the entry that is the example, one of SUBJECTS; raises KeyError if there is none."""
        found = [name for name in SUBJECTS if name in self.entries]
        if not found:
            raise KeyError(" or ".join(SUBJECTS))
        return found[0]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels); raises KeyError if the data has no images."""
        return self.entries["image"].shape
