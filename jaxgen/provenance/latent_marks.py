"""Keyed signs of latents: a mark that costs no quality, for models with a Gaussian or uniform prior.

    z_i = s_i |z_i|,  s the signs of a key, a seed and a sample's index

As both priors are symmetric, z has exactly the prior's distribution over keys. The signs are other ones for each
sample: with one pattern for all, every sample would lie in one orthant, which shows. A model's encoder, or an
inversion of its decoder, recovers some of the signs from an image. For every fixed image the number of signs that
agree is exactly Binomial(d, 1/2) over keys, so the p-value assumes nothing about images, model or encoder.

Source: Yang et al. 2024, Gaussian Shading (https://arxiv.org/abs/2404.04956), section 4; on the need of other signs for
each sample, Thietke et al. 2025 (https://arxiv.org/abs/2503.11404).
"""

import hashlib

import numpy as np
from scipy.special import bdtrc

LEAST = 0.01
"""A test that cannot give a p-value of at most this says nothing."""


def signs(key: bytes, seed: int, index: int, size: int) -> np.ndarray:
    """The signs of one sample: int8 [size] of -1 and 1."""
    name = b"jaxgen.latents.1\0" + key + seed.to_bytes(8, "big") + index.to_bytes(8, "big")
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(name).digest(-(-size // 8)), np.uint8))[:size]
    return 2 * bits.astype(np.int8) - 1


def all_signs(key: bytes, seed: int, num: int, size: int) -> np.ndarray:
    """The signs of a seed's first samples: int8 [num, size]."""
    return np.stack([signs(key, seed, index, size) for index in range(num)])


def keyed(codes: np.ndarray, key: bytes, seed: int) -> np.ndarray:
    """Codes of a seed's samples, draws of the prior [num, ...], with the key's signs."""
    flat = np.abs(codes.reshape(len(codes), -1))
    return (flat * all_signs(key, seed, *flat.shape)).reshape(codes.shape).astype(codes.dtype)


def p_value(codes: np.ndarray, signs: np.ndarray) -> float:
    """The probability that at least as many signs agree by chance; a code of 0 agrees with neither sign.

    Args:
        codes: [...], recovered from images.
        signs: [...], those of the samples that the images are said to be.
    """
    agree = int((np.sign(codes) == signs).sum())
    return float(bdtrc(agree - 1, signs.size, 0.5)) if agree else 1.0


def found(codes: np.ndarray, candidates: np.ndarray) -> tuple[int, float]:
    """The best of several candidates for the code of one image, and its p-value times their number (Bonferroni).

    Args:
        codes: [d], recovered from the image.
        candidates: signs [num, d].
    """
    agree = (np.sign(codes) == candidates).sum(1)
    best = int(agree.argmax())
    return best, min(1.0, len(candidates) * p_value(codes, candidates[best]))


def least(num_signs: int, candidates: int = 1) -> float:
    """The smallest p-value that a test of so many signs and candidates can give."""
    return min(1.0, candidates * 2.0**-num_signs)
