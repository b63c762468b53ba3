"""Inception-v3 against torch-fidelity's with the same random weights; no published file is needed."""

import numpy as np
import pytest

pytest.importorskip("torch_fidelity")

import torch
from safetensors.numpy import load_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from jaxgen.evaluation import inception

TOLERANCE = 1e-4


class Unloaded(FeatureExtractorInceptionV3):
    """The network without loading weights."""

    def load_state_dict(self, state_dict):
        pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with the same random weights in both of PyTorch's file formats."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save({}, folder / "none.pth")
    network = Unloaded("random", ["2048"], feature_extractor_weights_path=str(folder / "none.pth"))
    generator = torch.Generator().manual_seed(0)

    def uniform(tensor, low, high):
        tensor.uniform_(low, high, generator=generator)

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            # He et al. 2015: keeps the second moments through the ReLUs
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
            if module.bias is not None:
                uniform(module.bias, -1, 1)
        elif isinstance(module, torch.nn.BatchNorm2d):
            uniform(module.weight, 0.5, 1.5)
            uniform(module.bias, -0.5, 0.5)
            uniform(module.running_mean, -0.5, 0.5)
            uniform(module.running_var, 0.5, 1.5)
    # The last block normalizes by the images' statistics, so that no feature is dead or dominated by rounding. In every
    # block, these would make the network so sensitive that its float32 and float64 outputs differ by more than 1e-4.
    for module in network.Mixed_7c.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train().momentum = None  # the running averages become those of the images
    network(torch.from_numpy(images(299, 299).transpose(0, 3, 1, 2).copy()))
    torch.save(network.state_dict(), folder / "zip.pth")
    torch.save(network.state_dict(), folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return folder


@pytest.fixture(scope="module")
def theirs(weights):
    """torch-fidelity's features and logits without bias for NHWC images."""
    path = str(weights / "zip.pth")
    network = FeatureExtractorInceptionV3("random", ["2048", "logits_unbiased"], feature_extractor_weights_path=path)
    return lambda images: [out.numpy() for out in network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))]


@pytest.fixture(scope="module")
def ours(weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "BATCH", 2)
        inception.convert(weights / "zip.pth", weights / "inception.safetensors")
        yield inception.load_inception(weights / "inception.safetensors")


def images(height, width):
    """A gradient, a checkerboard, a dark and a light noise image: uint8 [4, height, width, 3]."""
    random = np.random.Generator(np.random.Philox(0))
    rows, columns, channels = np.ogrid[:height, :width, :3]
    gradient = 255 * (rows / height + columns / width + channels) / 5
    checkerboard = 255 * ((rows // 4 + columns // 4 + channels) % 2)
    noise = random.integers(0, [[[[100]]], [[[256]]]], (2, height, width, 3))
    return np.stack([np.broadcast_to(x, (height, width, 3)) for x in (gradient, checkerboard, *noise)]).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 48), (299, 299), (28, 400)])
def test_features_and_logits(ours, theirs, height, width):
    x = images(height, width)
    for name, a, b in zip(("features", "logits"), (ours.features(x), ours.logits(x)), theirs(x), strict=True):
        scale = np.abs(b).max(axis=0)  # per feature
        whole, each = np.abs(a - b).max() / scale.max(), (np.abs(a - b).max(axis=0) / scale).max()
        spread = np.median(np.ptp(b, axis=0) / scale)
        print(f"{name} {height}x{width}: {whole:.1e}, per feature {each:.1e}; the images differ by {spread:.2f}")
        assert spread > 0.5
        assert whole < TOLERANCE
        assert each < TOLERANCE


def test_both_formats_hold_the_same(weights, ours, tmp_path):
    inception.convert(weights / "legacy.pth", tmp_path / "inception.safetensors")
    first, second = (load_file(path / "inception.safetensors") for path in (weights, tmp_path))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
