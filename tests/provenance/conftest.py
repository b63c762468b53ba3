"""Keys of a signer, and real images."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DATA = Path(os.environ.get("JAXGEN_TEST_DATA", "nowhere"))


@pytest.fixture(scope="session")
def make_keys(tmp_path_factory):
    """Function from a name to new keys in a folder of that name."""
    from jaxgen.provenance import keys

    def made(name):
        pytest.importorskip("cryptography", reason="cryptography comes with the extra provenance")
        folder = tmp_path_factory.mktemp("keys") / name
        keys.make(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAXGEN_KEYS_DIR", str(folder))
            return keys.own_keys()

    return made


@pytest.fixture(scope="session")
def signer(make_keys):
    return make_keys("signer")


@pytest.fixture(scope="session")
def other(make_keys):
    return make_keys("other")


@pytest.fixture(scope="session")
def mnist():
    """The test images, uint8 [10000, 28, 28, 1], and training images, [60000, 28, 28, 1]."""
    if not (DATA / "mnist").is_dir():
        pytest.skip("JAXGEN_TEST_DATA names no folder with mnist/")
    files = (DATA / "mnist" / f"{name}-images-idx3-ubyte.gz" for name in ("t10k", "train"))
    test, train = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16) for file in files)
    return test.reshape(-1, 28, 28, 1), train.reshape(-1, 28, 28, 1)


@pytest.fixture(scope="session")
def cifar():
    """Four thousand images uint8 [4000, 32, 32, 3]."""
    files = sorted((DATA / "cifar10_first4000").glob("*.png"))
    if not files:
        pytest.skip("JAXGEN_TEST_DATA names no folder with cifar10_first4000/")
    return np.concatenate([np.asarray(Image.open(file)).reshape(-1, 32, 32, 3) for file in files])
