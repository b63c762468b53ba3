"""The autoencoder: the linear network against PCA, the Gaussian of its codes against NumPy."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from experiments import autoencoder_pca
from jaxgen import data
from jaxgen.errors import UserError
from jaxgen.evaluation.networks import fit
from jaxgen.model import Spec
from jaxgen.models import autoencoder
from tests.models.contract import Contract

CONTRACT = Contract({"features": 4, "smallest": 4, "latent_dim": 3}, prior="gaussian", encodes=True)


def spec(size=8):
    image = jax.ShapeDtypeStruct((size, size, 1), np.uint8)
    return Spec({"image": image}, num_examples=64, mean=np.full((size, size, 1), 0.3))


def images(num, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, 8, 8, 1), dtype=np.uint8)


def made(**fields):
    """Makes the model, by default linear, and its initial state."""
    model = autoencoder.make(autoencoder.Config(**{"latent_dim": 3, "network": "linear", **fields}), spec())
    return model, jax.jit(model.init)(jax.random.key(0))


def fitted_linear(key, images, steps):
    """Trains the linear model with a learning rate that decays to 0; returns (model, state)."""
    mean = images.mean(0, dtype=np.float64) / 255
    spec = Spec({"image": jax.ShapeDtypeStruct(images.shape[1:], np.uint8)}, len(images), mean=mean)
    config = autoencoder.Config(network="linear", latent_dim=10, learning_rate=1e-2, decay_steps=steps)
    model = autoencoder.make(config, spec)
    return model, fit(jax.random.key(key), model, {"image": images}, steps, 128, title="", progress=False)


def check_pca(params, images):
    """Checks that the training error is within 1% of PCA's, and the span within 5 degrees."""
    x = images.reshape(len(images), -1) / 255
    pca = PCA(10, svd_solver="full" if len(x) < 1000 else "covariance_eigh").fit(x)
    least = ((x - pca.inverse_transform(pca.transform(x))) ** 2).sum(1).mean()
    error, angle = autoencoder_pca.against_pca(params, images.mean(0, dtype=np.float64) / 255, pca, x)
    assert least * (1 - 1e-6) < error < least * 1.01
    assert angle < 5


@pytest.fixture(scope="module")
def digits():
    return data.load("digits").train["image"]


@pytest.fixture(scope="module")
def linear(digits):
    return fitted_linear(0, digits, 2000)


def test_linear_reaches_pca_on_digits(linear, digits):
    check_pca(linear[1].params, digits)
    check_pca(fitted_linear(1, digits, 2000)[1].params, digits)


@pytest.mark.slow
def test_linear_reaches_pca_on_mnist(mnist):
    images = mnist["train"]["image"]
    check_pca(fitted_linear(0, images, 6000)[1].params, images)


def test_what_is_measured_against_pca():
    """PCA's own maps have its error and angle 0; turning one direction by 30 degrees into the 11th gives angle 30."""
    x = data.load("digits").train["image"].reshape(808, 64) / 255
    pca = PCA(11, svd_solver="full").fit(x)
    kept, eleventh = pca.components_[:10], pca.components_[10]
    turned = np.concatenate([kept[:9], np.cos(np.pi / 6) * kept[9:] + np.sin(np.pi / 6) * eleventh])
    pca.components_ = kept
    for span, angle in ((kept, 0), (turned, 30)):
        params = {
            "encoder": {"Dense_0": {"kernel": span.T, "bias": np.zeros(10)}},
            "decoder": {"Dense_0": {"kernel": span}, "bias": pca.mean_.reshape(8, 8, 1)},
        }
        error, found = autoencoder_pca.against_pca(params, pca.mean_, pca, x)
        centered = x - x.mean(0)
        assert error == pytest.approx((centered**2).sum(1).mean() - ((centered @ span.T) ** 2).sum(1).mean())
        assert found == pytest.approx(angle, abs=1e-5)


def test_loss_is_the_squared_error_summed_over_pixels():
    """A linear model with zero weights gives the mean image: the loss is the mean squared distance from it."""
    model, state = made()
    params = jax.tree.map(jnp.zeros_like, state.params)
    params["decoder"]["bias"] = state.params["decoder"]["bias"]
    batch = {"image": images(5)}
    _, metrics = jax.jit(model.phases[0].step)(jax.random.key(1), state._replace(params=params), batch)
    expected = ((batch["image"] / 255 - 0.3) ** 2).sum((1, 2, 3)).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("fields", [{"network": "conv", "features": 4}, {}])
def test_what_is_decoded_before_training_without_weights_is_the_mean_image(fields):
    model, state = made(**fields)
    params = jax.tree.map(jnp.zeros_like, state.params)
    params["decoder"]["bias"] = state.params["decoder"]["bias"]
    decoded = jax.jit(model.latents.decode)(state._replace(params=params), jnp.ones((2, 3)), {})
    np.testing.assert_allclose(decoded["image"], np.full((2, 8, 8, 1), 0.3), rtol=1e-6)


def test_pixels_are_clipped():
    model, state = made()
    z = 100 * np.random.default_rng(2).normal(size=(20, 3)).astype(np.float32)
    pixels = np.asarray(jax.jit(model.latents.decode)(state, z, {})["image"])
    assert (pixels.min(), pixels.max()) == (0, 1)


def codes(state, image):
    """Codes of the linear encoder, in NumPy: float64 [num, latent_dim]."""
    dense = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params["encoder"]["Dense_0"])
    return (image.reshape(len(image), -1) / 255 - 0.3) @ dense["kernel"] + dense["bias"]


def test_the_gaussian_is_that_of_all_codes_at_first_and_then_of_the_last():
    """NumPy's moments of all batches, with the running average's weights, agree if parameters are almost constant."""
    model, state = made(learning_rate=1e-30)
    step = jax.jit(model.phases[0].step)
    batches = [images(16, seed) for seed in range(102)]
    weights = np.zeros(102)
    for i, image in enumerate(batches):
        state, _ = step(jax.random.key(1), state._replace(step=jnp.int32(i)), {"image": image})
        weights *= 1 - max(1 / (i + 1), 0.01)
        weights[i] = max(1 / (i + 1), 0.01)
        if i in (0, 4, 101):
            z = np.concatenate([codes(state, image) for image in batches[: i + 1]])
            each = weights[: i + 1].repeat(16)
            np.testing.assert_allclose(state.extra["mean"], np.average(z, axis=0, weights=each), rtol=1e-5, atol=1e-5)
            expected = np.cov(z.T, aweights=each, bias=True)
            np.testing.assert_allclose(state.extra["covariance"], expected, rtol=1e-4, atol=1e-5 * expected.max())
    assert weights[0] == pytest.approx(0.01 * 0.99**2)


def test_codes_are_white_and_the_way_back_is_exact(linear, digits):
    """Codes have mean 0 and covariance I after one step on all training images, which sets the moments to theirs."""
    (model, state), image = linear, digits
    moments = jax.jit(model.phases[0].step)(jax.random.key(0), state._replace(step=jnp.int32(0)), {"image": image})[0]
    state = state._replace(extra=moments.extra)
    u = np.asarray(jax.jit(model.latents.encode)(state, {"image": image}), np.float64)
    np.testing.assert_allclose(u.mean(0), np.zeros(10), atol=1e-4)
    np.testing.assert_allclose(np.cov(u.T, bias=True), np.eye(10), atol=1e-3)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    z = (image.reshape(808, -1) / 255 - image.reshape(808, -1).mean(0) / 255) @ params["encoder"]["Dense_0"]["kernel"]
    z += params["encoder"]["Dense_0"]["bias"]
    expected = z @ params["decoder"]["Dense_0"]["kernel"] + params["decoder"]["bias"].reshape(-1)
    pixels = np.asarray(jax.jit(model.latents.decode)(state, jnp.float32(u), {})["image"]).reshape(808, -1)
    np.testing.assert_allclose(pixels, expected.clip(0, 1), atol=1e-4)


def test_the_codes_of_the_last_steps_are_those_of_the_final_parameters(linear, digits):
    """The Gaussian stored by training agrees with the moments of all codes, up to noise of its batches."""
    (model, state), image = linear, digits
    u = np.asarray(jax.jit(model.latents.encode)(state, {"image": image}), np.float64)
    assert np.abs(u.mean(0)).max() < 0.05
    assert np.abs(np.cov(u.T, bias=True) - np.eye(10)).max() < 0.05


def test_a_code_that_is_always_the_same_leaves_all_finite():
    """Two equal columns of the encoder and a zero column make the covariance singular."""
    model, state = made()
    step, encode, decode = (
        jax.jit(function) for function in (model.phases[0].step, model.latents.encode, model.latents.decode)
    )
    draw = jax.jit(lambda state: model.sampler.draw(jax.random.key(3), state, 4, {}))
    kernel = state.params["encoder"]["Dense_0"]["kernel"]
    state.params["encoder"]["Dense_0"]["kernel"] = kernel.at[:, 1].set(kernel[:, 0]).at[:, 2].set(0)
    for image, alike in ((images(16), False), (np.zeros((16, 8, 8, 1), np.uint8), True)):  # alike: all codes are equal
        moments, _ = step(jax.random.key(1), state, {"image": image})
        fitted = state._replace(extra=moments.extra)
        u = encode(fitted, {"image": image})
        assert np.isfinite(u).all()
        params, bias = fitted.params, np.asarray(fitted.params["decoder"]["bias"]).reshape(-1)
        expected = codes(fitted, image) @ np.asarray(params["decoder"]["Dense_0"]["kernel"], np.float64) + bias
        pixels = np.asarray(decode(fitted, u, {})["image"]).reshape(16, -1)
        np.testing.assert_allclose(pixels, expected.clip(0, 1), atol=1e-4)
        assert (np.ptp(np.int32(draw(fitted)["image"]), axis=0).max() <= 1) == alike


@pytest.mark.parametrize("name", ["features", "smallest"])
def test_fields_of_conv_are_refused_by_linear(name):
    with pytest.raises(UserError, match=rf"{name} only applies with --network conv \(you chose linear\)"):
        made(**{name: 2})


def test_images_that_cannot_be_halved_are_of_linear_only():
    with pytest.raises(UserError, match="autoencoder cannot make images of 9x9"):
        autoencoder.make(autoencoder.Config(), spec(9))
    assert autoencoder.make(autoencoder.Config(network="linear"), spec(9)).sampler


@pytest.mark.slow
def test_the_experiment_measures_digits(tmp_path, monkeypatch, capsys):
    quick = ({"steps": 30, "batch_size": 64},) * 2
    recipe = autoencoder_pca.RECIPES["digits"]._replace(settings=quick)
    monkeypatch.setitem(autoencoder_pca.RECIPES, "digits", recipe)
    autoencoder_pca.compare(("digits",), seeds=(0, 1), runs=tmp_path / "runs", out=tmp_path / "out.json")
    first = (tmp_path / "out.json").read_text()
    assert capsys.readouterr().out.count("digits") == 2
    shutil.move(tmp_path / "out.json", tmp_path / "first.json")
    autoencoder_pca.compare(("digits",), seeds=(0, 1), runs=tmp_path / "runs", out=tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == first
    with pytest.raises(UserError, match="no recipe for 'shapes': there are digits, mnist"):
        autoencoder_pca.compare(("shapes",))
