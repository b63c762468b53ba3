"""Scores of a model of meshes against the metrics' functions, worked out for each mesh."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data
from jaxgen.deformation import Deformation
from jaxgen.evaluation import of_models, of_samples
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.requested import Requested
from jaxgen.evaluation.table import COLUMNS, FAMILIES, Context
from jaxgen.metrics import mesh_errors
from jaxgen.model import Latents, Model, Prior
from jaxgen.models import gan

FLATTENED = np.float32([1, 0.9, 1])


@pytest.fixture(scope="module")
def bars():
    """Sixty bars for training, and twelve for testing."""
    found = data.load("bars")
    splits = {"train": 60, "validation": 12, "test": 12}
    few = {}
    for split, num in splits.items():
        entries = {name: np.array(entry[:num]) for name, entry in getattr(found, split).items()}
        entries["aligned"] = np.array(getattr(found, split)["aligned"][:num])
        few[split] = entries
    return found._replace(**few)


def flattening(state, z, condition):
    return {"mesh": z.reshape(len(z), -1, 3) * state * FLATTENED}


@pytest.fixture(scope="module")
def model():
    """A model whose latents are the aligned vertices; decoded meshes are a tenth shorter, and a state scales them."""
    prior = Prior(lambda key, state, num: jax.random.normal(key, (num, 658 * 3)), "gaussian")
    latents = Latents(flattening, prior, lambda state, batch: batch["aligned"])
    return Model(lambda key: None, (), ("aligned",), latents=latents)


def scored(family, model, bars):
    keys, state = jax.random.split(jax.random.key(0)), jnp.array([1.0, 1.1])
    return family(model, keys, state, bars, Scoring())


def test_vertex_errors_of_reconstructions_beside_pca(model, bars):
    scores = scored(of_models.vertex_error, model, bars)
    percent = 100 / mesh_errors.box_diagonal(bars.train["aligned"].mean(0).reshape(-1, 3))
    meshes = bars.test["aligned"].reshape(12, 658, 3)
    expected = [percent * mesh_errors.vertex_errors(meshes, scale * meshes * FLATTENED).mean() for scale in (1, 1.1)]
    np.testing.assert_allclose(scores["vertex_error"], expected, rtol=1e-4)
    # 59 components at most
    back = mesh_errors.pca_reconstructed(bars.train["aligned"], bars.test["aligned"], 59).reshape(-1, 658, 3)
    np.testing.assert_allclose(
        scores["vertex_error_pca"], [percent * mesh_errors.vertex_errors(meshes, back).mean()] * 2
    )
    assert scores.keys() == {"vertex_error", "vertex_error_pca"}


def test_pca_of_the_features_of_a_model(bars):
    """A code of one number, so PCA has one component, of gradients given for these few meshes."""
    deformation = Deformation(bars.spec.reference, bars.spec.faces, "gradients")
    splits = {
        split: {**getattr(bars, split), "gradients": deformation.features(getattr(bars, split)["mesh"])}
        for split in ("train", "test")
    }
    latents = Latents(
        lambda state, z, condition: {"mesh": z[:, :, None] * jnp.ones((658, 3)) + state},
        Prior(None, "gaussian"),
        lambda state, batch: batch["gradients"][:, :1],
    )
    scores = scored(of_models.vertex_error, Model(None, (), ("gradients",), latents=latents), bars._replace(**splits))
    back = deformation.meshes(mesh_errors.pca_reconstructed(*(splits[s]["gradients"] for s in ("train", "test")), 1))
    percent = 100 / mesh_errors.box_diagonal(bars.train["aligned"].mean(0).reshape(-1, 3))
    expected = percent * mesh_errors.vertex_errors(bars.test["mesh"], back).mean()
    np.testing.assert_allclose(scores["vertex_error_pca_features"], [expected] * 2, rtol=1e-6)


def test_paths_between_test_meshes(model, bars):
    """Latents are vertices, so both paths are straight, and scaling changes neither ratio."""
    scores = scored(of_models.mesh_paths, model, bars)
    plain = scored(of_models.mesh_paths, model._replace(latents=model.latents._replace(decode=unscaled)), bars)
    for what in ("edges", "volume"):
        np.testing.assert_allclose(plain[f"path_{what}"], scores[f"straight_{what}"], rtol=1e-4)
        assert scores[f"straight_{what}"][0] > 0.05
    # volumes scale by one factor, which cancels; lengths do not
    np.testing.assert_allclose(scores["path_volume"], scores["straight_volume"], rtol=1e-3)
    assert abs(scores["path_edges"][0] - scores["straight_edges"][0]) > 1e-4


def unscaled(state, z, condition):
    return {"mesh": z.reshape(len(z), -1, 3) * state}


class Values(NamedTuple):
    values: np.ndarray


def test_statistics_of_samples(bars):
    sides = of_samples.Sides(
        bars, *(Values(getattr(bars, s)["mesh"]) for s in ("train", "validation", "test")), None, 0
    )
    percent = 100 / mesh_errors.box_diagonal(bars.train["aligned"].mean(0).reshape(-1, 3))
    copies = of_samples.meshes(sides, Values(bars.train["mesh"][:5]))
    assert copies["specificity"] < 1e-4
    assert copies["flipped"] == mesh_errors.flipped_share(bars.train["mesh"][:5], bars.spec.faces).mean()
    distances = mesh_errors.rigid_distances(bars.train["mesh"][:5], bars.test["mesh"])
    np.testing.assert_allclose(copies["generalization"], percent * distances.min(0).mean(), rtol=1e-9)
    others = of_samples.meshes(sides, Values(bars.test["mesh"][:7]))
    expected = mesh_errors.rigid_distances(bars.test["mesh"][:7], bars.train["mesh"]).min(1).mean()
    np.testing.assert_allclose(others["specificity"], percent * expected, rtol=1e-9)
    for key, score in (copies | others).items():
        assert score >= COLUMNS[key].bounds[0]


def test_which_data_and_models_have_them(model, bars):
    digits = data.load("digits")
    none = gan.make(gan.Config(), digits.spec)
    for name in ("meshes", "vertex_error", "mesh_paths"):
        assert FAMILIES[name].lacks(Context(digits, None, None, none)) == "the data are no meshes"
        assert not FAMILIES[name].lacks(Context(bars, None, None, model))
    blind = model._replace(latents=model.latents._replace(encode=None))
    for name in ("vertex_error", "mesh_paths"):
        assert FAMILIES[name].lacks(Context(bars, None, None, blind)) == "it does not encode"
    names = Requested(bars, Scoring(), 10, "test", lambda: (None, None)).names
    assert "vertex_error" in names
    assert "vertex_error" not in Requested(digits, Scoring(), 10, "test", lambda: (None, None)).names
