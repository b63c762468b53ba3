"""Classifiers: losses, parameters and layers computed in NumPy, and logistic regression against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.special
from flax import traverse_util
from sklearn.linear_model import LogisticRegression

from jaxgen.errors import UserError
from jaxgen.evaluation.networks import fit
from jaxgen.model import Spec
from jaxgen.models import classifier
from tests.models.by_hand import drawn_state
from tests.models.contract import Contract

CONTRACT = Contract({"features": 4, "embedding_dim": 8}, samples=False, predicts={"label": 10, "features": 8})

NETWORKS = ["strided", "logistic", "lenet", "vgg", "resnet"]
POOLED = {"features": 4, "embedding_dim": 8}
SMALL = {"strided": POOLED, "logistic": {}, "lenet": POOLED, "vgg": POOLED, "resnet": {"features": 4, "blocks": 1}}


def make(spec, network="strided", **fields):
    return classifier.make(classifier.Config(network, **{**SMALL[network], **fields}), spec)


def of_size(height, width, channels, classes=10):
    return Spec({"image": jax.ShapeDtypeStruct((height, width, channels), np.uint8)}, 100, classes)


# Losses


def test_label_smoothing_is_its_formula(digits, batch):
    """The loss is - sum_k q_k log p_k with q = .7 onehot + .3 / K, for large logits too."""
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32) * np.float32(
        [[1], [1], [1], [30], [90], [0]]
    )
    label = np.array([0, 3, 1, 2, 0, 1])
    log_p = scipy.special.log_softmax(logits.astype(np.float64), -1)
    q = 0.7 * np.eye(4)[label] + 0.3 / 4
    np.testing.assert_allclose(classifier.cross_entropy(logits, label, 0.3), -(q * log_p).sum(-1), rtol=2e-6)
    np.testing.assert_allclose(
        classifier.cross_entropy(logits, label, 0.0), -log_p[np.arange(6), label], rtol=2e-6, atol=1e-6
    )
    model = make(digits.spec, "logistic", label_smoothing=0.3)
    state = drawn_state(model.init)
    log_p = scipy.special.log_softmax(np.asarray(jax.jit(model.predict["label"])(state, batch), np.float64), -1)
    expected = -((0.7 * np.eye(10)[batch["label"]] + 0.03) * log_p).sum(-1).mean()
    _, metrics = jax.jit(model.phases[0].step)(jax.random.key(1), state, batch)
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_of_kernels(digits, batch):
    losses = []
    for l2 in (0.01, 0.0):
        model = make(digits.spec, "logistic", l2=l2)
        state = drawn_state(model.init)
        losses.append(jax.jit(model.phases[0].step)(jax.random.key(1), state, batch)[1]["loss"])
    kernel = np.asarray(state.params["Dense_0"]["kernel"], np.float64)
    assert float(losses[0] - losses[1]) == pytest.approx(0.005 * (kernel**2).sum(), rel=1e-4)


def test_the_penaltys_gradient_is_twice_the_kernels_and_0_elsewhere(digits):
    params = drawn_state(make(digits.spec, "resnet").init).params
    flat, gradients = (
        traverse_util.flatten_dict(tree) for tree in (params, jax.jit(jax.grad(classifier.squared_kernels))(params))
    )
    kernels = {path for path in flat if path[-1] == "kernel"}
    # 1 first, 2 in each of 3 blocks, 2 projections, 1 dense; others are a bias, and BatchNorm's gains and biases
    assert (len(kernels), len(flat)) == (10, 10 + 1 + 2 * 9)
    for path, parameter in flat.items():
        np.testing.assert_allclose(gradients[path], 2 * parameter if path in kernels else 0 * parameter)


def test_examples_of_unknown_label_are_as_left_out(digits, batch):
    """Label -1 is excluded from loss, gradient and accuracy; if all labels are unknown, only the penalty remains."""
    model = make(digits.spec, "logistic", label_smoothing=0.2, l2=0.01)
    state, step = drawn_state(model.init), jax.jit(model.phases[0].step)
    unknown = np.arange(32) % 3 == 0
    some = batch | {"label": np.where(unknown, -1, batch["label"]).astype(np.int32)}
    known = {name: entry[~unknown] for name, entry in batch.items()}
    # Half of the known labels equal the predictions, so that the accuracy is neither 0 nor 1.
    predicted = np.asarray(jax.jit(model.predict["label"])(state, batch)).argmax(-1)
    for part, own in ((some, predicted), (known, predicted[~unknown])):
        part["label"] = np.where((part["label"] >= 0) & (part["image"].sum((1, 2, 3)) % 2 == 0), own, part["label"])
    (after, metrics), (expected, of_known) = step(jax.random.key(1), state, some), step(jax.random.key(1), state, known)
    assert 0.2 < metrics["accuracy"] < 0.8
    for name, value in of_known.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)

    def gradient(state):
        return jax.tree.map(lambda moment: 10 * np.asarray(moment, np.float64), state.opt_state[0].mu["Dense_0"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradient(after), gradient(expected)
    )
    kernel = np.asarray(state.params["Dense_0"]["kernel"], np.float64)
    after, metrics = step(jax.random.key(1), state, batch | {"label": np.full(32, -1, np.int32)})
    assert metrics["accuracy"] == 0
    np.testing.assert_allclose(metrics["loss"], 0.005 * (kernel**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient(after)["kernel"], 0.01 * kernel, rtol=1e-4, atol=1e-8)
    assert not gradient(after)["bias"].any()


# Networks


def test_max_pooling_by_hand():
    x = np.arange(30, dtype=np.float32).reshape(1, 5, 3, 2)  # the fifth row and the third column are cut
    assert classifier.max_pool(jnp.asarray(x)).tolist() == [[[[8, 9]], [[20, 21]]]]
    x = jnp.asarray([[3.0, 1, 2, 2], [0, 2, 2, 2]])[None, :, :, None]
    pooled, pull = jax.vjp(classifier.max_pool, x)
    assert pull(jnp.asarray([8.0, 4]).reshape(pooled.shape))[0][0, :, :, 0].tolist() == [[8, 0, 4, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        # 28x28 gray images, 10 classes, features 4, embedding_dim 8, 2 blocks; the last layer has 8 * 10 + 10
        ("strided", (25 * 4 + 4) + (9 * 4 * 8 + 8) + (9 * 8 * 8 + 8) + (7 * 7 * 8 * 8 + 8) + 90),
        ("logistic", 784 * 10 + 10),
        ("lenet", (25 * 4 + 4) + (25 * 4 * 8 + 8) + (7 * 7 * 8 * 8 + 8) + 90),
        # pooled to 14, 7 and 3; gains and biases of BatchNorm, and no biases of convolutions
        ("vgg", 9 * (4 + 16) + 16 + 9 * (32 + 64) + 32 + 9 * (128 + 256) + 64 + (3 * 3 * 16 * 8 + 8) + 90),
        # two blocks at each size, of 4, 8 and 16 channels; projections to 8 and 16; BatchNorm after every convolution
        (
            "resnet",
            (9 * 4 + 8)
            + (9 * 4 * 16 + 4 * 8)
            + (9 * (32 + 3 * 64) + 4 * 16 + 32 + 16)
            + (9 * (128 + 3 * 256) + 4 * 32 + 128 + 32)
            + (16 * 10 + 10),
        ),
    ],
)
def test_numbers_of_parameters(network, expected):
    fields = {"blocks": 2} if network == "resnet" else {}
    state = jax.eval_shape(make(of_size(28, 28, 1), network, **fields).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == expected


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (33, 47, 3)])
def test_images_of_any_size(network, shape):
    model = make(of_size(*shape, classes=7), network)
    images = {"image": np.zeros((2, *shape), np.uint8)}
    state = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.eval_shape(model.predict["label"], state, images).shape == (2, 7)
    width = {"logistic": int(np.prod(shape)), "resnet": 16}.get(network, 8)
    assert jax.eval_shape(model.predict["features"], state, images).shape == (2, width)


@pytest.mark.parametrize("network", ["lenet", "vgg"])
def test_images_too_small_to_pool(network):
    with pytest.raises(UserError, match=f"{network} pools images of at least 4 pixels a side, not 3x9"):
        make(of_size(3, 9, 1), network)
    make(of_size(3, 9, 1), "resnet")


def test_lenet_in_numpy(digits):
    """Computes one image's features and logits by scipy's correlations and NumPy."""
    model = make(digits.spec, "lenet")
    image = digits.test["image"][:1]
    state = drawn_state(model.init)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    x = image[0] / 255.0
    for name in ("Conv_0", "Conv_1"):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        maps = [
            sum(scipy.signal.correlate2d(x[:, :, i], kernel[:, :, i, o], "same") for i in range(x.shape[2])) + bias[o]
            for o in range(kernel.shape[3])
        ]
        y = np.maximum(np.stack(maps, -1), 0)
        x = np.maximum.reduce([y[::2, ::2], y[1::2, ::2], y[::2, 1::2], y[1::2, 1::2]])
    embedding = np.maximum(x.reshape(-1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    logits = embedding @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    features, classify = (jax.jit(model.predict[what]) for what in ("features", "label"))
    np.testing.assert_allclose(features(state, {"image": image})[0], embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(classify(state, {"image": image})[0], logits, rtol=1e-4, atol=1e-5)


def test_shortcuts_of_a_resnet_carry_the_image(digits):
    """Only the first convolution, two projections and the mean remain with the last gains of all blocks 0."""
    model = make(digits.spec, "resnet")
    image = digits.test["image"][:1]
    state = drawn_state(model.init)
    params = {
        name: {"scale": np.ones_like(layer["scale"]), "bias": np.zeros_like(layer["bias"])}
        if "scale" in layer
        else layer
        for name, layer in state.params.items()
    }
    # By layer index: 0 first; 1 and 2 of a block, 3 and 4 (5 its projection), 6 and 7 (8)
    for last in (2, 4, 7):
        params[f"BatchNorm_{last}"]["scale"] = np.zeros_like(params[f"BatchNorm_{last}"]["scale"])
    embedding = jax.jit(model.predict["features"])(state._replace(params=params), {"image": image})[0]
    kernels = [params[f"Conv_{i}"]["kernel"] for i in (0, 5, 8)]
    assert [kernel.shape for kernel in kernels] == [(3, 3, 1, 4), (1, 1, 4, 8), (1, 1, 8, 16)]
    unit = 1 / np.sqrt(1 + 1e-5)  # BatchNorm's, before training
    first = [scipy.signal.correlate2d(image[0, :, :, 0] / 255.0, kernels[0][:, :, 0, o], "same") for o in range(4)]
    x = np.maximum(unit * np.stack(first, -1), 0)
    for kernel in kernels[1:]:
        x = np.maximum(unit * x[::2, ::2] @ kernel[0, 0], 0)
    np.testing.assert_allclose(embedding, x.mean((0, 1)), rtol=1e-5, atol=1e-7)


def test_batch_norm_in_training_and_in_evaluation(digits, batch):
    """Averages move a tenth of the way to the batch's statistics; with averages equal to these, both modes agree."""
    model = make(digits.spec, "resnet")
    state = drawn_state(model.init)
    new, metrics = jax.jit(model.phases[0].step)(jax.random.key(1), state, batch)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    kernel = np.asarray(state.params["Conv_0"]["kernel"], np.float64)
    x = batch["image"][..., 0] / 255.0
    first = np.stack([[scipy.signal.correlate2d(each, kernel[:, :, 0, o], "same") for each in x] for o in range(4)])
    averages = new.extra["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(averages["mean"], 0.1 * first.mean((1, 2, 3)), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * first.var((1, 2, 3)), rtol=1e-5)

    statistics = jax.tree.map(lambda a, b: (b - 0.9 * a) / 0.1, state.extra, new.extra)
    classify = jax.jit(model.predict["label"])
    log_p = scipy.special.log_softmax(np.asarray(classify(state._replace(extra=statistics), batch), np.float64), -1)
    assert float(metrics["loss"]) == pytest.approx(-log_p[np.arange(32), batch["label"]].mean(), rel=1e-4)

    logits = np.asarray(classify(new, batch))
    others = np.concatenate([batch["image"][:3], 255 - batch["image"][3:]])
    np.testing.assert_array_equal(classify(new, {"image": others})[:3], logits[:3])  # independent of the other images
    with_others = np.asarray(classify(state, batch))
    assert np.abs(with_others - logits).max() > 1e-3


@pytest.mark.parametrize(
    ("network", "fields"),
    [
        ("logistic", {"learning_rate": 0.1}),
        ("lenet", {"learning_rate": 0.01, "dropout": 0.0}),
        ("vgg", {"learning_rate": 0.01, "dropout": 0.0}),
        ("resnet", {"learning_rate": 0.01}),
    ],
)
def test_one_batch_can_be_overfitted(network, fields, digits, batch):
    """Training memorizes 16 images, in both training and evaluation mode."""
    few = {entry: values[:16] for entry, values in batch.items()}
    model = make(digits.spec, network, weight_decay=0.0, **fields)

    @jax.jit
    def fitted(state):
        def take(state, key):
            return model.phases[0].step(key, state, few)

        return jax.lax.scan(take, state, jax.random.split(jax.random.key(1), 100))

    state, metrics = fitted(jax.jit(model.init)(jax.random.key(0)))
    assert metrics["loss"][0] > 1
    assert metrics["loss"][-1] < 0.02
    assert metrics["accuracy"][-1] == 1
    assert (np.asarray(jax.jit(model.predict["label"])(state, few)).argmax(-1) == few["label"]).all()


# Logistic regression


def objective(kernel, bias, x, label, l2):
    """Mean cross-entropy plus penalty, in float64."""
    log_p = scipy.special.log_softmax(x @ np.asarray(kernel, np.float64) + np.asarray(bias, np.float64), -1)
    return -log_p[np.arange(len(label)), label].mean() + l2 / 2 * (np.asarray(kernel, np.float64) ** 2).sum()


def losses(train, spec, l2, steps, batch_size, rate):
    """Objective of logistic regression as trained here, and as minimized by scikit-learn's L-BFGS."""
    fields = {"l2": l2, "learning_rate": rate, "decay_steps": steps, "weight_decay": 0.0}
    model = make(spec, "logistic", **fields)
    state = fit(jax.random.key(0), model, train, steps, batch_size, title="", progress=False)
    x, label = train["image"].reshape(len(train["label"]), -1) / 255.0, train["label"]
    reference = LogisticRegression(C=1 / (len(x) * l2), tol=1e-5, max_iter=2000).fit(x, label)
    params = state.params["Dense_0"]
    return objective(params["kernel"], params["bias"], x, label, l2), objective(
        reference.coef_.T, reference.intercept_, x, label, l2
    )


@pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")  # scikit-learn 1.6 on SciPy 1.16
def test_logistic_regression_reaches_the_optimum(digits):
    found, optimum = losses(digits.train, digits.spec, l2=1e-3, steps=2000, batch_size=101, rate=0.05)
    assert optimum - 1e-5 < found < optimum + 1e-3


@pytest.mark.slow
def test_logistic_regression_reaches_the_optimum_on_mnist(mnist):
    """Uses the first 10,000 training images, as L-BFGS takes minutes on all 60,000."""
    some = {name: entry[:10_000] for name, entry in mnist["train"].items()}
    found, optimum = losses(some, of_size(28, 28, 1), l2=1e-2, steps=2400, batch_size=500, rate=0.02)
    assert optimum - 1e-5 < found < optimum + 1e-3


@pytest.mark.parametrize(
    ("field", "value"),
    [("l2", -1.0), ("l2", float("nan")), ("l2", 1e39), ("label_smoothing", -0.1), ("label_smoothing", 1.0),
     ("blocks", 0), ("features", 0), ("learning_rate", 1e-46), ("weight_decay", 1.0)],
)  # fmt: skip
def test_values_that_cannot_be_run(field, value, digits):
    with pytest.raises(UserError, match=f"{field} must be "):
        make(digits.spec, "resnet", **{field: value})


@pytest.mark.parametrize(
    ("network", "field", "value", "takers"),
    [
        ("logistic", "features", 4, "strided or lenet or vgg or resnet"),
        ("resnet", "dropout", 0.5, "strided or lenet or vgg"),
        ("resnet", "embedding_dim", 8, "strided or lenet or vgg"),
        ("vgg", "blocks", 2, "resnet"),
    ],
)
def test_fields_of_another_network_are_refused(network, field, value, takers, digits):
    with pytest.raises(UserError, match=rf"{field} only applies with --network {takers} \(you chose {network}\)"):
        make(digits.spec, network, **{field: value})
