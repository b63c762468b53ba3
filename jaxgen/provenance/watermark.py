"""A watermark in pixels: a keyed direction of the middle frequencies, tested by its angle.

    f(x) = band of the DCT of (y - blur y) / (1 + local deviation),  y the luma of x
    t    = c sqrt((n - 1) / (1 - c^2)),  c the cosine of f(x) and u,  u ~ N(0, I_n) drawn from the key

For every fixed image, t over the key has exactly Student's distribution with n - 1 degrees of freedom: the p-value
assumes nothing about images. For one fixed key the images of a dataset share structure, so that the share of unmarked
images below p can differ from p. Dividing by the local deviation weighs flat regions, where a small change shows least
against the image; without it images of 28x28 pixels cannot be marked.

A mark survives the loss of signed metadata; it proves nothing. Who has several marked images can estimate u from their
mean, and so remove the mark or put it on other images.

Sources: for the test of the angle, Fernandez et al. 2022 (https://arxiv.org/abs/2112.09581), section 3; for the
division, Heeger 1992, "Normalization of cell responses in cat striate cortex".
"""

import hashlib
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import dct
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtri, stdtr

from jaxgen.errors import UserError

LOW, HIGH = 0.1, 0.8
"""Bounds of the band, as shares of the highest frequency of an axis."""

BLUR = 1.0
"""Standard deviation of the blur, in pixels."""

FLAT = 1e-6
"""Added to the variance, so that its root has a gradient in flat regions."""

LUMA = (0.299, 0.587, 0.114)

STEPS, STEP = 60, 0.1
"""Steps of the gradient ascent, and the length of one as a share of the largest change allowed."""

AT_ONCE = 128
"""Maximum number of images processed at once."""

LEAST = 200
"""Frequencies that an image must have in the band: 20x20 pixels have 209. At 8x8 and 16x16, with 38 and 136, a change
of 34 dB is found in 0% and 4% of images."""

WEAKEST, STRONGEST = 60.0, 25.0
"""Bounds of the peak signal-to-noise ratio in dB: a weaker mark is lost in rounding, a stronger one is plain to see."""


def pattern(key: bytes, size: int) -> np.ndarray:
    """The direction u of a key, float64 [size], independent N(0, 1).

    The numbers are quantiles of SHAKE-256's output, so that they are the same with every version of NumPy and JAX.
    """
    stream = hashlib.shake_256(b"jaxgen.watermark.1\0" + key + size.to_bytes(8, "big")).digest(8 * size)
    return ndtri(((np.frombuffer(stream, ">u8") >> 11).astype(np.float64) + 0.5) / 2**53)


@cache
def _band(height: int, width: int) -> np.ndarray:
    radius = np.hypot(np.arange(height)[:, None] / height, np.arange(width) / width)
    return (radius >= LOW) & (radius < HIGH)


@cache
def _matrices(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The blur and the orthonormal DCT of an axis, each float64 [size, size]."""
    identity = np.eye(size)
    return gaussian_filter1d(identity, BLUR, axis=0), dct(identity, axis=0, norm="ortho")


def size_of_band(height: int, width: int) -> int:
    """Number of frequencies in the band, n."""
    return int(_band(height, width).sum())


def features(images: Any) -> Any:
    """Middle frequencies f, [..., n], of NumPy's or JAX's images, floats [..., H, W, C] from 0 to 255."""
    height, width, channels = images.shape[-3:]
    dtype = images.dtype
    (blur_h, dct_h), (blur_w, dct_w) = (
        tuple(matrix.astype(dtype) for matrix in _matrices(side)) for side in (height, width)
    )
    y = images[..., 0] if channels == 1 else images @ np.asarray(LUMA, dtype)
    detail = y - blur_h @ y @ blur_w.T
    deviation = (blur_h @ detail**2 @ blur_w.T + dtype.type(FLAT)) ** 0.5
    return (dct_h @ (detail / (1 + deviation)) @ dct_w.T)[..., _band(height, width)]


def unable(images: np.ndarray) -> str:
    """A reason why the mark of images uint8 [num, H, W, C] cannot be tested; "" if it can."""
    _, height, width, channels = images.shape
    if channels not in (1, 3):
        return f"images of {channels} channels are neither gray nor RGB"
    if size_of_band(height, width) < LEAST:
        return f"{height}x{width} pixels have {size_of_band(height, width)} frequencies in the band, not {LEAST}"
    if len(np.unique(images)) <= 2:
        return "images of at most two levels hold no mark"
    return ""


def check_markable(height: int, width: int, psnr: float) -> None:
    """Raises UserError for images too small to be marked, or a strength that cannot be."""
    if size_of_band(height, width) < LEAST:
        reason = f"{size_of_band(height, width)} frequencies in the watermark's band, and {LEAST} are needed"
        raise UserError(f"images of {height}x{width} pixels are too small for --watermark: they have {reason}")
    if not STRONGEST <= psnr <= WEAKEST:
        raise UserError(f"--watermark must be from {STRONGEST:.0f} to {WEAKEST:.0f} dB, such as 38, not {psnr:g}")


def embed(images: np.ndarray, key: bytes, psnr: float) -> np.ndarray:
    """Marks images: turns f towards the key's direction as far as a change of `psnr` dB allows.

    Args:
        images: uint8 [num, H, W, C], gray or RGB.
        key: the secret.
        psnr: peak signal-to-noise ratio of the change, in dB; rounding adds a little to the change.

    Returns:
        uint8 [num, H, W, C].
    """
    return turned(images, pattern(key, size_of_band(*images.shape[1:3])), psnr)


def turned(images: np.ndarray, direction: np.ndarray, psnr: float) -> np.ndarray:
    """Images uint8 [num, H, W, C] whose f is turned towards a direction [n], as `embed` turns it to the key's."""
    radius = np.float32(255 * 10 ** (-psnr / 20) * np.sqrt(np.prod(images.shape[1:])))
    parts = [images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)]
    return np.concatenate([jax.device_get(_turned(part, jnp.float32(direction), radius)) for part in parts])


@jax.jit
@partial(jax.vmap, in_axes=(0, None, None))
def _turned(image, u, radius):
    """Projected gradient ascent of the cosine in the ball of `radius` around the image, and between 0 and 255."""
    original = image.astype(jnp.float32)

    def cosine(x):
        f = features(x)
        return (f @ u) * jax.lax.rsqrt((f @ f) * (u @ u) + FLAT)

    def step(x, _):
        gradient = jax.grad(cosine)(x)
        x = x + STEP * radius * gradient * jax.lax.rsqrt((gradient**2).sum() + 1e-30)
        change = x - original
        change = change * jnp.minimum(1, radius * jax.lax.rsqrt((change**2).sum() + 1e-30))
        return jnp.clip(original + change, 0, 255), None

    return jnp.round(jax.lax.scan(step, original, length=STEPS)[0]).astype(jnp.uint8)


def p_value(images: np.ndarray, key: bytes) -> float:
    """The probability, over keys, of images that agree with the key as much: exact for any images.

    Of several images the features' mean is tested, each of length 1; this is a fixed vector as well.

    Args:
        images: uint8 [num, H, W, C].
        key: the secret.
    """
    f = features(images.astype(np.float64))
    length = np.linalg.norm(f, axis=-1, keepdims=True)
    mean = np.divide(f, length, out=np.zeros_like(f), where=length > FLAT).sum(0)  # constant images have rounding only
    return float(p_of_angle(mean, pattern(key, len(mean)))) if mean.any() else 1.0


def p_of_angle(f: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The p-values of features [..., n], none of them 0, with a key's direction [n]: [...]."""
    n = len(u)
    cosine = (f @ u) / (np.linalg.norm(f, axis=-1) * np.linalg.norm(u))
    t = cosine * np.sqrt((n - 1) / np.maximum(1 - cosine**2, 1e-15))
    return stdtr(n - 1, -t)
