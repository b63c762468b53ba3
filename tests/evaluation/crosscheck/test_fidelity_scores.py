"""Fréchet and kernel distance and inception score against torch-fidelity, from the same features and logits."""

import numpy as np
import pytest

pytest.importorskip("torch_fidelity")

import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from jaxgen.metrics.frechet import frechet_distance
from jaxgen.metrics.inception_score import inception_score
from jaxgen.metrics.kernel import kernel_distance, squared_mmd


def features(seed, n, dimensions):
    """Draws correlated, uncentered, nonnegative features, like a network's."""
    rng = np.random.default_rng(seed)
    return np.maximum(0.5 + rng.normal(size=(n, dimensions)) @ rng.normal(size=(dimensions, dimensions)) / 4, 0)


def test_frechet_distance():
    real, fake = features(0, 900, 32), features(1, 700, 32)
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)


def test_squared_mmds_of_the_same_subsets():
    real, fake = features(2, 300, 64), features(3, 400, 64)
    subsets, size, seed = 12, 100, 2020
    expected = kid_features_to_metric(
        torch.from_numpy(real),
        torch.from_numpy(fake),
        kid_subsets=subsets,
        kid_subset_size=size,
        rng_seed=seed,
        verbose=False,
    )
    rng = np.random.RandomState(seed)
    estimates = [
        squared_mmd(real[rng.choice(300, size, replace=False)], fake[rng.choice(400, size, replace=False)])
        for _ in range(subsets)
    ]
    assert np.mean(estimates) == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)
    assert np.std(estimates) == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-9)


def test_kernel_distance_where_a_subset_is_everything():
    real, fake = features(4, 200, 16), features(5, 200, 16)
    expected = kid_features_to_metric(
        torch.from_numpy(real), torch.from_numpy(fake), kid_subsets=3, kid_subset_size=200, rng_seed=0, verbose=False
    )
    value, _ = kernel_distance(real, fake, subsets=3, subset_size=200)
    assert value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)


@pytest.mark.parametrize("splits", [1, 10, 50])
def test_inception_score(splits):
    logits = np.random.default_rng(6).normal(scale=3, size=(1234, 100)).astype(np.float32)
    expected = isc_features_to_metric(torch.from_numpy(logits), splits=splits, shuffle=False)
    result = inception_score(logits, splits)
    assert result.mean == pytest.approx(expected["inception_score_mean"], rel=1e-9)
    assert result.deviation == pytest.approx(expected["inception_score_std"], rel=1e-6, abs=1e-12)


def test_inception_score_of_its_shuffled_order():
    logits = np.random.default_rng(7).normal(scale=3, size=(500, 20))
    expected = isc_features_to_metric(torch.from_numpy(logits), splits=7, shuffle=True, rng_seed=3)
    order = np.random.RandomState(3).permutation(500)
    assert inception_score(logits[order], 7).mean == pytest.approx(expected["inception_score_mean"], rel=1e-9)
