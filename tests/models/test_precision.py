"""bfloat16: which computations use it, and which values stay float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data, models
from jaxgen.errors import UserError
from jaxgen.models import classifier, dcgan
from jaxgen.nn.promotion import library_promotion
from jaxgen.training import plan
from jaxgen.training.settings import Settings
from tests.cases import some_slow
from tests.models.contract import contracts

POOLED = {"features": 8, "embedding_dim": 16, "dropout": 0.0}
WIDE = {
    "classifier": POOLED,
    "autoencoder": {"features": 8, "latent_dim": 4},
    "vae": {"features": 8, "latent_dim": 4},
    "vaegan": {"features": 8, "latent_dim": 4},
    "gan": {"generator_units": 16, "discriminator_units": 8, "pieces": 2, "latent_dim": 8},
    "dcgan": {"features": 8, "latent_dim": 8},
    "infogan": {"features": 8, "dense_units": 64},
    "cgan": {"features": 8, "latent_dim": 8},
    "mggan": {"features": 8, "latent_dim": 8, "code_dim": 4, "manifold_units": 8},
    "transgan": {
        **{"dim": 32, "depths": (1, 1), "discriminator_dim": 32, "discriminator_depth": 1, "heads": 2},
        **{"latent_dim": 8, "critic_steps": 1, "augment": ()},
    },
    "transformer": {"dim": 16, "layers": 1},
    "pixelcnn": {"features": 8, "layers": 1, "head_features": 8},
    "pixelcnnpp": {"features": 8, "layers": 1, "scales": 2, "dropout": 0.0},
    "pixelrnn": {"features": 8, "layers": 1, "head_features": 8},
    "vqvae": {"features": 16, "halvings": 1, "dim": 8, "blocks": 1},
    "vqvae2": {"features": 16, "dim": 8, "blocks": 1, "gated_features": 8, "gated_layers": 1},
}
"""Configs wide enough for bfloat16's rounding to average out; other models have their contract's."""
IMAGES = {name: contract for name, contract in contracts().items() if contract.dataset == "digits"}
SMALL = {name: WIDE.get(name, contract.small) for name, contract in IMAGES.items() if contract.layers}
NETWORKS = {"logistic": {}, "lenet": POOLED, "vgg": POOLED, "resnet": {"features": 8, "blocks": 1}}
"""Classifier networks other than strided, with their fields."""
STATISTICS = {"autoencoder": 1, "transformer": 2, "vqvae": 2, "vqvae2": 4}
"""Number of products with a float32 operand: the covariance of the autoencoder's codes, which is no layer's; the
gradients of a block's queries and keys from that of the attention's weights; of each codebook, the distances to its
codes and the sums of their vectors."""
PRODUCTS = {"dot_general", "conv", "conv_dx", "conv_dw"}


def test_every_network_of_the_classifier_is_tested_here():
    assert {"strided", *NETWORKS} == set(classifier.NETWORKS)


def built(name, precision):
    """Builds a model with small networks as a run does."""
    module = models.load(name)
    settings = Settings(precision=precision, batch_size=4)
    return plan.build(module, module.Config(**SMALL.get(name, {})), data.load("digits"), settings)


@pytest.mark.parametrize("name", SMALL)
def test_models_with_layers_are_run_in_bfloat16(name):
    assert built(name, "bfloat16").phases


def test_a_model_whose_steps_have_no_bfloat16_is_refused_in_it():
    """The check traces the steps: those computed in float32 contain no bfloat16 value."""
    with pytest.raises(UserError, match=r"^naive_bayes computes in float32 only, not in bfloat16$"):
        built("naive_bayes", "bfloat16")
    for name in ("naive_bayes", "mggan"):
        assert not plan._has_bfloat16(built(name, "float32"), data.load("digits").spec, 4)


@pytest.mark.parametrize("of", ["autoencoder", "adversarial"])
def test_one_phase_in_bfloat16_suffices(of):
    narrow, wide = built("mggan", "bfloat16"), built("mggan", "float32")
    phases = tuple((narrow if a.name == of else wide).phases[i] for i, a in enumerate(narrow.phases))
    assert plan._has_bfloat16(narrow._replace(phases=phases), data.load("digits").spec, 4)


def make(name, spec, dtype=jnp.float32, **fields):
    module = models.load(name)
    config = module.Config(**(fields or SMALL.get(name, {})))
    return module.make(config, spec._replace(compute_dtype=jnp.dtype(dtype)))


def products(jaxpr):
    """Yields the operands' dtypes of every product in a jaxpr, calls included; products with a vector are sums."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS and min(operand.aval.ndim for operand in equation.invars) > 1:
            yield tuple(operand.aval.dtype for operand in equation.invars)
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "jaxpr")):
            if hasattr(parameter, "jaxpr"):
                yield from products(parameter.jaxpr)
            elif hasattr(parameter, "eqns"):
                yield from products(parameter)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields", "phase"),
    [(name, {}, 0) for name in SMALL]
    + [("mggan", {}, 1)]
    + [("classifier", {"network": network, **fields}, 0) for network, fields in NETWORKS.items()],
)
def test_products_are_bfloat16_and_all_that_is_kept_is_float32(name, fields, phase):
    digits = data.load("digits")
    batch = {entry: jnp.asarray(values[:64]) for entry, values in digits.train.items()} | {"weight": jnp.ones(64)}
    key = jax.random.key(0)
    narrow, wide = make(name, digits.spec, jnp.bfloat16, **fields), make(name, digits.spec, **fields)
    state = narrow.init(key)
    step, exact_step = (model.phases[phase].step for model in (narrow, wide))

    dtypes = list(products(jax.make_jaxpr(step)(key, state, batch).jaxpr))
    of_layers = [pair for pair in dtypes if pair == (jnp.dtype(jnp.bfloat16),) * 2]
    assert len(of_layers) >= 2
    assert len(dtypes) - len(of_layers) == STATISTICS.get(name, 0)
    assert set(products(jax.make_jaxpr(exact_step)(key, state, batch).jaxpr)) == {(jnp.dtype(jnp.float32),) * 2}

    traced = jax.jit(step).trace(key, state, batch)
    with library_promotion():  # JAX's attention in bfloat16 mixes dtypes when it is lowered
        compiled = traced.lower().compile()
    new, metrics = compiled(key, state, batch)
    kept = {leaf.dtype for leaf in jax.tree.leaves((new.params, new.extra, metrics))}
    assert {dtype for dtype in kept if jnp.issubdtype(dtype, jnp.floating)} == {jnp.dtype(jnp.float32)}
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert jax.tree.map(lambda a: a.dtype, new.opt_state) == jax.tree.map(lambda a: a.dtype, state.opt_state)
    # From the same initial state only the layers' rounding differs: 8 bits of mantissa, averaged over a batch.
    _, exact = jax.jit(exact_step)(key, state, batch)
    for metric, value in exact.items():
        # BatchNorm's subtraction costs gradients some of the 8 bits
        rtol = 0.06 if metric.endswith("_gradient") else 0.02
        np.testing.assert_allclose(metrics[metric], value, rtol=rtol, atol=0.02, err_msg=metric)


@pytest.mark.parametrize("name", some_slow(["vae", "classifier", "autoencoder"]))
def test_bfloat16_learns_as_float32_does(name):
    digits = data.load("digits")
    batch = {entry: jnp.asarray(values[:32]) for entry, values in digits.train.items()} | {"weight": jnp.ones(32)}

    def trained(dtype):
        model = make(name, digits.spec._replace(binary=True), dtype)  # the VAE's bits are learned soonest

        def step(state, key):
            state, metrics = model.phases[0].step(key, state, batch)
            return state, metrics

        keys = jax.random.split(jax.random.key(1), 150)
        state = jax.jit(model.init)(jax.random.key(0))
        return np.asarray(jax.jit(lambda state: jax.lax.scan(step, state, keys))(state)[1]["loss"])

    narrow, wide = trained(jnp.bfloat16), trained(jnp.float32)
    fall = wide[:5].mean() - wide[-10:].mean()
    assert fall > 0.05 * wide[:5].mean()
    assert abs(narrow[-10:].mean() - wide[-10:].mean()) < 0.05 * fall


def test_batch_norm_takes_its_statistics_in_float32():
    """The mean is 8 over 4,096 pixels; a bfloat16 sum would stop growing at 256 times a pixel."""
    x = (8 + jax.random.normal(jax.random.key(0), (64, 8, 8, 4))).astype(jnp.bfloat16)
    net = Normalized()
    _, moved = net.apply(net.init(jax.random.key(1), x), x, mutable=["batch_stats"])
    (averages,) = moved["batch_stats"].values()
    assert {leaf.dtype for leaf in averages.values()} == {jnp.dtype(jnp.float32)}
    exact = np.asarray(x, np.float64).reshape(-1, 4)
    np.testing.assert_allclose(averages["mean"], 0.1 * exact.mean(0), rtol=1e-6)  # moved a tenth of the way from 0
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * exact.var(0), rtol=1e-3)  # and from 1


class Normalized(dcgan.nn.Module):
    @dcgan.nn.compact
    def __call__(self, x):
        y = dcgan.normalized(x, training=True)
        assert y.dtype == x.dtype
        return y
