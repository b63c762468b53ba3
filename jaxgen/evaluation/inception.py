"""Inception-v3 as used by the Fréchet Inception distance (FID), with weights that the user supplies.

The weights are those of TensorFlow's archive inception-2015-12-05. pytorch-fid and torch-fidelity offer them as
the same PyTorch file, whose layer names are used here. FID depends on three differences from the paper: images are
resized to 299x299 by TensorFlow 1's bilinear rule; average pooling at a border divides by the number of pixels
under the window, fewer than nine; the last block uses max pooling, the block before it average pooling.

Source: Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, "Rethinking the Inception architecture for computer
vision" (https://arxiv.org/abs/1512.00567), table 1 and figures 5 to 7 and 10.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.evaluation.extractor import Extractor, digest
from jaxgen.evaluation.torch_weights import read_state_dict
from jaxgen.metrics import checks
from jaxgen.model import Array
from jaxgen.nn.conv import Conv

FID_NAME = "inception-2015-12-05"  # Fréchet distances by any other weights are not called FID
FID_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # of the .pth file that holds them
RENAMED = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}  # as in PyTorch
VERSION = "1"  # of the converted file's layout
HEADER = ("name", "sha256", "weights", "version")  # keys of the converted file's metadata
BATCH = 32
SIZE = 299

# A branch is a sequence of steps (features, kernel): a convolution, a BatchNorm and a ReLU. "3x3" keeps the image's
# size; "3x3/2" has no padding, and stride 2. A step of two kernels applies both to its input: as many features each.
MIXED_5 = {  # figure 5, except for the 5x5 kernel
    "branch1x1": [(64, "1x1")],
    "branch5x5": [(48, "1x1"), (64, "5x5")],
    "branch3x3dbl": [(64, "1x1"), (96, "3x3"), (96, "3x3")],
}
REDUCTION_6 = {  # figure 10
    "branch3x3": [(384, "3x3/2")],
    "branch3x3dbl": [(64, "1x1"), (96, "3x3"), (96, "3x3/2")],
}
REDUCTION_7 = {
    "branch3x3": [(192, "1x1"), (320, "3x3/2")],
    "branch7x7x3": [(192, "1x1"), (192, "1x7"), (192, "7x1"), (192, "3x3/2")],
}
MIXED_7 = {  # figure 7
    "branch1x1": [(320, "1x1")],
    "branch3x3": [(384, "1x1"), (384, "1x3", "3x1")],
    "branch3x3dbl": [(448, "1x1"), (384, "3x3"), (384, "1x3", "3x1")],
}


def _mixed_6(n: int) -> dict:  # figure 6
    return {
        "branch1x1": [(192, "1x1")],
        "branch7x7": [(n, "1x1"), (n, "1x7"), (192, "7x1")],
        "branch7x7dbl": [(n, "1x1"), (n, "7x1"), (n, "1x7"), (n, "7x1"), (192, "1x7")],
    }


average_pool = partial(nn.avg_pool, window_shape=(3, 3), padding="SAME", count_include_pad=False)
max_pool = partial(nn.max_pool, window_shape=(3, 3), padding="SAME")
halving_pool = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
# A block's branches, the pooling of one more branch, and the features of the 1x1 convolution after it, if any.
BLOCKS = {
    "Mixed_5b": (MIXED_5, average_pool, 32),  # [batch, 35, 35, 256]
    "Mixed_5c": (MIXED_5, average_pool, 64),  # [batch, 35, 35, 288]
    "Mixed_5d": (MIXED_5, average_pool, 64),
    "Mixed_6a": (REDUCTION_6, halving_pool, None),  # [batch, 17, 17, 768]
    "Mixed_6b": (_mixed_6(128), average_pool, 192),
    "Mixed_6c": (_mixed_6(160), average_pool, 192),
    "Mixed_6d": (_mixed_6(160), average_pool, 192),
    "Mixed_6e": (_mixed_6(192), average_pool, 192),
    "Mixed_7a": (REDUCTION_7, halving_pool, None),  # [batch, 8, 8, 1280]
    "Mixed_7b": (MIXED_7, average_pool, 192),  # [batch, 8, 8, 2048]
    "Mixed_7c": (MIXED_7, max_pool, 192),
}


class ConvNorm(nn.Module):
    """Convolution, BatchNorm with its running averages, ReLU."""

    features: int
    kernel: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, H, W, in] -> [batch, H', W', features]."""
        size, _, stride = self.kernel.partition("/")
        size, strides = tuple(map(int, size.split("x"))), (int(stride or 1),) * 2
        x = Conv(self.features, size, strides, "VALID" if stride else "SAME", use_bias=False, name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class Mixed(nn.Module):
    """An Inception block: its branches' outputs joined over the channels."""

    branches: Mapping[str, list]
    pool: Callable[[Array], Array]
    pool_features: int | None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, H, W, in] -> [batch, H', W', out]."""
        outputs = []
        for branch, steps in self.branches.items():
            y = x
            for i, (features, *kernels) in enumerate(steps, 1):
                name = f"{branch}_{i}" if len(steps) > 1 else branch
                letters = "ab" if len(kernels) > 1 else [""]
                sides = zip(kernels, letters, strict=True)
                y = jnp.concatenate([ConvNorm(features, k, name=name + letter)(y) for k, letter in sides], axis=-1)
            outputs.append(y)
        y = self.pool(x)
        outputs.append(ConvNorm(self.pool_features, "1x1", name="branch_pool")(y) if self.pool_features else y)
        return jnp.concatenate(outputs, axis=-1)


class InceptionV3(nn.Module):
    """The network: maps the output of `network_input` to features and logits."""

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """[batch, 299, 299, 3] -> features [batch, 2048], logits without bias [batch, 1008]."""
        x = ConvNorm(32, "3x3/2", name="Conv2d_1a_3x3")(x)  # [batch, 149, 149, 32]
        x = ConvNorm(32, "3x3/1", name="Conv2d_2a_3x3")(x)
        x = halving_pool(ConvNorm(64, "3x3", name="Conv2d_2b_3x3")(x))  # [batch, 73, 73, 64]
        x = ConvNorm(80, "1x1", name="Conv2d_3b_1x1")(x)
        x = halving_pool(ConvNorm(192, "3x3/1", name="Conv2d_4a_3x3")(x))  # [batch, 35, 35, 192]
        for name, block in BLOCKS.items():
            x = Mixed(*block, name=name)(x)
        features = x.mean(axis=(1, 2))
        return features, nn.Dense(1008, use_bias=False, name="fc")(features)


def resized(images: Array) -> Array:
    """Float32 [batch, H, W, C] -> [batch, 299, 299, C] by TensorFlow 1's bilinear rule (`align_corners=False`).

    Output pixel i lies at i * size / 299 of the input, without the half-pixel offset of later rules. It is interpolated
    linearly between the pixels before and after; the last pixel is repeated. Shrinking is not antialiased.
    """
    for axis in (2, 1):
        size = images.shape[axis]
        position = np.arange(SIZE, dtype=np.float32) * np.float32(size / SIZE)
        low = position.astype(np.int32)
        share = np.expand_dims(position - np.floor(position), tuple(range(1, 4 - axis)))
        before, after = (jnp.take(images, at, axis) for at in (low, np.minimum(low + 1, size - 1)))
        images = before + (after - before) * share
    return images


def network_input(images: Array) -> Array:
    """Images uint8 [batch, H, W, 1 or 3] -> float32 [batch, 299, 299, 3] of (pixel - 128) / 128."""
    return jnp.broadcast_to((resized(images.astype(jnp.float32)) - 128) / 128, (len(images), SIZE, SIZE, 3))


def load_inception(path: str | Path) -> Extractor:
    """Loads a file that `convert` wrote: features [num, 2048] and logits without bias [num, 1008], float32.

    Both are computed in one pass, without TF32, and cached for the latest images. The extractor's digest is the
    sha256 of the file that was converted. Its functions raise ValueError for anything but uint8 images.

    Raises:
      UserError: the file cannot be read, is not such a file, or was changed.
    """
    header = _header(path)
    if not set(HEADER) <= header.keys() or header["version"] != VERSION:
        raise UserError(f"{path} holds no converted Inception, or one of another version: convert it again")
    tensors = load_file(path)
    if digest(tensors) != header["weights"]:
        raise UserError(f"{path} was changed after it was converted: convert it again")
    variables = jax.device_put(unflatten_dict(tensors, sep="/"))
    network, prepare = jax.jit(InceptionV3().apply), jax.jit(network_input)  # all image sizes share the network
    last = {}

    def both(images):
        images = checks.images(images, "Inception's")
        key = digest({"images": images})
        if key not in last:
            batches = pipeline.batches({"image": images}, BATCH)
            with jax.default_matmul_precision("highest"):
                rows = [jax.device_get(network(variables, prepare(batch["image"]))) for batch in batches]
            last.clear()
            last[key] = [np.concatenate(parts)[: len(images)] for parts in zip(*rows, strict=True)]
        return last[key]

    return Extractor(
        name=header["name"],
        digest=header["sha256"],
        features=lambda images: both(images)[0].copy(),
        logits=lambda images: both(images)[1].copy(),
        resizing="to 299x299 (bilinear as in TensorFlow 1, not antialiased)",
        fid=header["sha256"] == FID_SHA256,
    )


def convert(source: str | Path, out: str | Path) -> None:
    """Writes the weights of pytorch-fid's or torch-fidelity's file as safetensors for `load_inception`.

    No code in `source` is run, and PyTorch is not needed. Kernels become [height, width, in, out], all values
    float32; the logits' bias is left out. The header has a name, the sha256 of `source` and of the weights, a version.

    Raises:
      UserError: `source` cannot be read or does not hold this network, `out` exists or cannot be written.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise UserError(f"{out} exists; choose another name")
    names = {}
    for name in _shapes():  # params/Mixed_5b/branch1x1/conv/kernel is Mixed_5b.branch1x1.conv.weight in PyTorch
        _collection, *path, kind = name.split("/")
        names[".".join([*path, RENAMED.get(kind, kind)])] = name
    tensors = {
        names.get(name, name): np.ascontiguousarray(x.transpose((2, 3, 1, 0) if x.ndim == 4 else None), np.float32)
        for name, x in read_state_dict(source).items()
        if not name.endswith((".num_batches_tracked", "fc.bias"))
    }
    if wrong := {name for name, _ in _shapes().items() ^ {name: x.shape for name, x in tensors.items()}.items()}:
        words = f"{len(wrong)} tensors are missing, unknown or of another shape, {min(wrong)!r} among them"
        raise UserError(f"{source} does not hold the Inception of FID: {words}")
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    name = FID_NAME if sha256 == FID_SHA256 else f"inception-v3-{sha256[:8]}"
    header = dict(zip(HEADER, (name, sha256, digest(tensors), VERSION), strict=True))
    unfinished = out.with_name(f"{out.name}.incomplete")
    try:
        unfinished.write_bytes(save(tensors, header))
        unfinished.rename(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None


def _header(path: str | Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


@cache
def _shapes() -> dict[str, tuple[int, ...]]:
    """Map from a tensor's name in the converted file to its shape."""
    variables = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    return {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}
