"""The digits, and real MNIST if its published files are available."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from jaxgen import data


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def batch(digits):
    return {name: entry[:32] for name, entry in digits.train.items()} | {"weight": np.ones(32, np.float32)}


@pytest.fixture(scope="session")
def mnist():
    """Map from split, train or t10k, to image uint8 [examples, 28, 28, 1] and label int32 [examples]."""
    folder = Path(os.environ.get("JAXGEN_TEST_DATA", "nowhere")) / "mnist"
    if not folder.is_dir():
        pytest.skip("JAXGEN_TEST_DATA names no folder with mnist/")

    def read(name, header):
        return np.frombuffer(gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes()), np.uint8, offset=header)

    return {
        split: {
            "image": read(f"{split}-images-idx3", 16).reshape(-1, 28, 28, 1),
            "label": read(f"{split}-labels-idx1", 8).astype(np.int32),
        }
        for split in ("train", "t10k")
    }
