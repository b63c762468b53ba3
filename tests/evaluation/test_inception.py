import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.interpreters import partial_eval
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jaxgen.errors import UserError
from jaxgen.evaluation import inception
from jaxgen.evaluation.extractor import digest as content

# Parts of the network.


def resized_by_loops(image):
    """TensorFlow 1's ResizeBilinear of [height, width], pixel by pixel, with its float32 scale and positions."""
    height, width = image.shape
    rows, columns = np.float32(height) / np.float32(299), np.float32(width) / np.float32(299)
    ys, xs = [float(np.float32(i) * rows) for i in range(299)], [float(np.float32(j) * columns) for j in range(299)]
    pixels, out = image.tolist(), np.empty((299, 299))
    for i, y in enumerate(ys):
        top, bottom = int(y), min(int(y) + 1, height - 1)
        for j, x in enumerate(xs):
            left, right = int(x), min(int(x) + 1, width - 1)
            above = pixels[top][left] + (pixels[top][right] - pixels[top][left]) * (x - left)
            below = pixels[bottom][left] + (pixels[bottom][right] - pixels[bottom][left]) * (x - left)
            out[i, j] = above + (below - above) * (y - top)
    return out


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (64, 48, 1), (17, 640, 1), (1, 2, 1)])
def test_resizing_against_loops(height, width, channels):
    image = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.float64)
    ours = inception.resized(jnp.asarray(image, jnp.float32)[None])[0]
    for channel in range(channels):  # values up to 255 in float32, rounded three times each way
        np.testing.assert_allclose(ours[..., channel], resized_by_loops(image[..., channel]), rtol=0, atol=1e-4)


def test_resizing_by_hand():
    # two columns 0 and 299, at positions 2 j / 299: 2 j as far as the second one, which lies at 149.5, then 299
    image = jnp.array([0.0, 299.0]).reshape(1, 1, 2, 1)
    row = np.array([2.0 * j for j in range(150)] + [299.0] * 149)
    np.testing.assert_allclose(inception.resized(image)[0, :, :, 0], np.tile(row, (299, 1)), atol=1e-4)


def test_an_image_of_299_pixels_stays_and_one_of_598_loses_every_second():
    image = np.random.default_rng(1).integers(0, 256, (1, 598, 598, 3)).astype(np.float32)
    np.testing.assert_array_equal(inception.resized(image), image[:, ::2, ::2])
    np.testing.assert_array_equal(inception.resized(image[:, :299, :299]), image[:, :299, :299])


def test_network_input():
    gray = np.array([0, 64, 128, 255], np.uint8)[:, None, None, None] * np.ones((4, 8, 9, 1), np.uint8)
    expected = np.array([-1, -0.5, 0, 127 / 128])[:, None, None, None] * np.ones((4, 299, 299, 3))
    np.testing.assert_array_equal(inception.network_input(gray), expected)
    colors = np.random.default_rng(2).integers(0, 256, (1, 20, 30, 3), np.uint8)
    for channel in range(3):
        alone = inception.network_input(colors[..., channel : channel + 1])
        np.testing.assert_array_equal(inception.network_input(colors)[..., channel], alone[..., 0])


def test_average_pooling_leaves_the_padding_out():
    image = jnp.arange(1.0, 10).reshape(1, 3, 3, 1)
    # a corner is the mean of 4 pixels, a side of 6: (1 + 2 + 4 + 5) / 4, (1 + 2 + 3 + 4 + 5 + 6) / 6, ...
    expected = np.array([[3, 3.5, 4], [4.5, 5, 5.5], [6, 6.5, 7]])
    np.testing.assert_allclose(inception.average_pool(image)[0, :, :, 0], expected, rtol=1e-6)


def test_max_pooling():
    image = -jnp.arange(1.0, 26).reshape(1, 5, 5, 1)
    np.testing.assert_array_equal(inception.halving_pool(image)[0, :, :, 0], [[-1, -3], [-11, -13]])
    # padding is less than all pixels, even these negative ones
    expected = -np.array([[1, 1, 2], [1, 1, 2], [6, 6, 7]])
    np.testing.assert_array_equal(inception.max_pool(image)[0, :3, :3, 0], expected)


def test_convolution_and_normalization():
    module = inception.ConvNorm(2, "1x1")
    variables = {
        "params": {
            "conv": {"kernel": jnp.array([3.0, -3]).reshape(1, 1, 1, 2)},
            "bn": {"scale": jnp.full(2, 2.0), "bias": jnp.full(2, 0.5)},
        },
        "batch_stats": {"bn": {"mean": jnp.ones(2), "var": jnp.full(2, 0.003)}},
    }
    # (3 * 2 - 1) / sqrt(.003 + .001) * 2 + .5 = 158.6139; the other (-6 - 1) / ... is negative
    y = module.apply(variables, jnp.full((1, 1, 1, 1), 2.0)).ravel()
    np.testing.assert_allclose(y, [10 / np.sqrt(0.004) + 0.5, 0], rtol=1e-6)


@pytest.mark.parametrize(("kernel", "size"), [("3x3", (9, 8)), ("3x3/1", (7, 6)), ("3x3/2", (4, 3)), ("1x7", (9, 8))])
def test_sizes_of_kernels(kernel, size):
    variables = inception.ConvNorm(1, kernel).init(jax.random.key(0), jnp.zeros((1, 9, 8, 1)))
    assert inception.ConvNorm(1, kernel).apply(variables, jnp.zeros((1, 9, 8, 1))).shape == (1, *size, 1)
    assert variables["params"]["conv"]["kernel"].shape[:2] == tuple(map(int, kernel[:3].split("x")))


# The network.


@pytest.fixture(scope="module")
def shapes():
    """Shapes of all variables, as {"params/Mixed_5b/...": shape}."""
    variables = jax.eval_shape(inception.InceptionV3().init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))
    return {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}


def test_number_of_parameters(shapes):
    # torchvision's Inception-v3 has 27,161,264; minus its auxiliary classifier and its output for 1,000 classes
    auxiliary = 768 * 128 + 2 * 128 + 128 * 768 * 5 * 5 + 2 * 768 + 768 * 1000 + 1000
    trunk = 27_161_264 - auxiliary - (2048 * 1000 + 1000)
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    parameters = {name: size for name, size in sizes.items() if name.startswith("params/")}
    assert sum(parameters.values()) == trunk + 2048 * 1008 == 23_849_952
    # 94 convolutions, each with a mean and a variance for each of its outputs
    scales = [size for name, size in sizes.items() if name.endswith("/scale")]
    assert len(scales) == 94
    assert len(sizes) == 94 * 5 + 1
    assert sum(sizes.values()) - sum(parameters.values()) == 2 * sum(scales)


def test_every_variable_is_used(shapes):
    def features_and_logits(variables):
        return inception.InceptionV3().apply(variables, jnp.zeros((1, 299, 299, 3)))

    tree = inception.unflatten_dict({name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}, sep="/")
    jaxpr = jax.make_jaxpr(features_and_logits)(tree).jaxpr
    assert len(jaxpr.invars) == len(shapes)
    _, used = partial_eval.dce_jaxpr(jaxpr, [True, False])  # by the features alone
    unused = [path for (path, _), is_used in zip(jax.tree.leaves_with_path(tree), used, strict=True) if not is_used]
    assert [jax.tree_util.keystr(path) for path in unused] == ["['params']['fc']['kernel']"]
    assert all(partial_eval.dce_jaxpr(jaxpr, [False, True])[1])  # by the logits


# Weights.


@pytest.fixture(scope="module")
def state(shapes):
    """Random weights with PyTorch's names, in its layout."""
    random = np.random.Generator(np.random.Philox(3))
    weights = {"fc.bias": random.normal(size=1008).astype(np.float32)}
    for name, shape in shapes.items():
        path = name.split("/", 1)[1].replace("/", ".")
        if path.endswith("kernel"):
            values = random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
            values = values.transpose(3, 2, 0, 1) if len(shape) == 4 else values.T
            weights[path.removesuffix("kernel") + "weight"] = values
        elif path.endswith("scale"):
            weights[path.removesuffix("scale") + "weight"] = random.uniform(0.8, 1.2, shape).astype(np.float32)
            weights[path.removesuffix("scale") + "num_batches_tracked"] = np.array(0)
        elif path.endswith("bias"):
            weights[path] = random.normal(0, 0.2, shape).astype(np.float32)
        else:
            statistic = path.rsplit(".", 1)[1]
            values = random.normal(0, 0.2, shape) if statistic == "mean" else random.uniform(0.8, 1.2, shape)
            weights[path.removesuffix(statistic) + f"running_{statistic}"] = values.astype(np.float32)
    return weights


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Conv2d_1a_3x3.conv.weight", (32, 3, 3, 3)),
        ("Conv2d_4a_3x3.bn.weight", (192,)),
        ("Mixed_5b.branch1x1.conv.weight", (64, 192, 1, 1)),
        ("Mixed_5d.branch_pool.conv.weight", (64, 288, 1, 1)),
        ("Mixed_6a.branch3x3dbl_3.conv.weight", (96, 96, 3, 3)),
        ("Mixed_6c.branch7x7_2.conv.weight", (160, 160, 1, 7)),
        ("Mixed_6e.branch7x7dbl_2.conv.weight", (192, 192, 7, 1)),
        ("Mixed_7a.branch7x7x3_4.bn.bias", (192,)),
        ("Mixed_7c.branch3x3dbl_3b.conv.weight", (384, 384, 3, 1)),
        ("Mixed_7c.branch3x3_2a.bn.running_var", (384,)),
        ("fc.weight", (1008, 2048)),
    ],
)
def test_names_and_shapes_of_the_published_file(state, name, shape):
    assert state[name].shape == shape


def convert(state, out, source=b"weights"):
    """Converts these tensors as if they came from a file with the bytes `source`."""
    (out.parent / "source.pth").write_bytes(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "read_state_dict", lambda path: state)
        inception.convert(out.parent / "source.pth", out)


@pytest.fixture(scope="module")
def converted(state, tmp_path_factory):
    out = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    convert(state, out)
    return out


@pytest.fixture(scope="module")
def network(converted):
    """The network loaded for batches of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "BATCH", 2)
        yield inception.load_inception(converted)


def test_the_converted_file(state, converted, shapes):
    tensors = load_file(converted)
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
    assert {tensor.dtype.name for tensor in tensors.values()} == {"float32"}
    kernel, ours = state["Mixed_6b.branch7x7_2.conv.weight"], tensors["params/Mixed_6b/branch7x7_2/conv/kernel"]
    for out, width, into in np.ndindex(4, 7, 3):
        assert ours[0, width, into, out] == kernel[out, into, 0, width]
    np.testing.assert_array_equal(tensors["params/fc/kernel"][3, :5], state["fc.weight"][:5, 3])
    for ours, theirs in [("params", "weight"), ("params", "bias"), ("stats", "running_mean"), ("stats", "running_var")]:
        collection, layer = {"params": "params", "stats": "batch_stats"}[ours], "Mixed_7b/branch3x3_2a/bn"
        kind = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}[theirs]
        expected = state[f"Mixed_7b.branch3x3_2a.bn.{theirs}"]
        np.testing.assert_array_equal(tensors[f"{collection}/{layer}/{kind}"], expected)
    assert list(converted.parent.glob("*.incomplete")) == []


def test_metadata_and_name(state, converted, tmp_path, monkeypatch, network):
    digest = hashlib.sha256(b"weights").hexdigest()
    with safe_open(converted, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata.pop("weights") == content(load_file(converted))
    assert metadata == {"name": f"inception-v3-{digest[:8]}", "sha256": digest, "version": "1"}
    assert (network.name, network.digest, network.fid) == (f"inception-v3-{digest[:8]}", digest, False)
    # only the published file of FID has its name
    assert inception.FID_SHA256.startswith("6726825d")
    monkeypatch.setattr(inception, "FID_SHA256", hashlib.sha256(b"other").hexdigest())
    convert(state, tmp_path / "out", source=b"other")
    loaded = inception.load_inception(tmp_path / "out")
    assert (loaded.name, loaded.digest, loaded.fid) == ("inception-2015-12-05", inception.FID_SHA256, True)


def test_other_float_types_are_converted(state, tmp_path):
    convert(state | {"fc.weight": state["fc.weight"].astype(np.float16)}, tmp_path / "out")
    kernel = load_file(tmp_path / "out")["params/fc/kernel"]
    np.testing.assert_array_equal(kernel, state["fc.weight"].T.astype(np.float16).astype(np.float32), strict=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Mixed_7c.branch1x1.bn.running_mean": None}, "1 tensors .* 'batch_stats/Mixed_7c/branch1x1/bn/mean'"),
        ({"AuxLogits.fc.weight": np.zeros((1000, 768))}, "1 tensors .* 'AuxLogits.fc.weight'"),
        ({"AuxLogits.conv0.bn.weight": np.zeros(128)}, "1 tensors .* 'AuxLogits.conv0.bn.weight'"),
        ({"nodots": np.zeros(128)}, "1 tensors .* 'nodots'"),
        ({"fc.weight": np.zeros((1000, 2048))}, "1 tensors .* 'params/fc/kernel'"),
        ({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 27))}, "1 tensors .* 'params/Conv2d_1a_3x3/conv/kernel'"),
    ],
)
def test_weights_of_another_network_are_refused(state, tmp_path, change, message):
    changed = {name: tensor for name, tensor in (state | change).items() if tensor is not None}
    with pytest.raises(UserError, match=f"source.pth does not hold the Inception of FID: {message}") as error:
        convert(changed, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(state, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out exists; choose another name"):
        convert(state, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_that_is_not_there(state, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "read_state_dict", lambda path: state)
    (tmp_path / "source.pth").write_bytes(b"weights")
    with pytest.raises(UserError, match=r"cannot write .*none/out: No such file"):
        inception.convert(tmp_path / "source.pth", tmp_path / "none" / "out")


def images(seed, *shape):
    return np.random.Generator(np.random.Philox(seed)).integers(0, 256, shape, np.uint8)


def test_a_padded_batch_changes_no_features(network):
    three = images(4, 3, 40, 30, 3)
    features, logits = network.features(three), network.logits(three)
    assert (features.shape, features.dtype, logits.shape, logits.dtype) == ((3, 2048), "float32", (3, 1008), "float32")
    assert np.median(features.std(axis=0)) > 1e-4 * features.max()  # the images differ by ten times the tolerance
    for i in range(3):
        np.testing.assert_allclose(
            network.features(three[i : i + 1])[0], features[i], rtol=0, atol=1e-5 * features.max()
        )


def test_logits_are_without_bias(network, state):
    two = images(5, 2, 64, 64, 3)
    features, logits = network.features(two), network.logits(two)
    expected = features.astype(np.float64) @ state["fc.weight"].T
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_results_are_kept_for_the_same_images_only(network, monkeypatch):
    counted = []
    batches = inception.pipeline.batches
    monkeypatch.setattr(inception.pipeline, "batches", lambda *args: counted.append(1) or batches(*args))
    first = images(8, 1, 16, 16, 3)
    features = network.features(first)
    network.features(first)[:] = 0  # a caller may modify the returned copy
    network.logits(first)
    np.testing.assert_array_equal(network.features(first.copy()), features)
    assert len(counted) == 1
    first[0, 0, 0, 0] ^= 255  # the same array object with other pixels
    assert not np.array_equal(network.features(first), features)
    assert len(counted) == 2


def test_gray_images_are_repeated_over_the_channels(network):
    gray = images(6, 2, 28, 28, 1)  # with one channel the program differs, and may round differently
    repeated = network.features(np.repeat(gray, 3, axis=-1))
    np.testing.assert_allclose(network.features(gray), repeated, rtol=0, atol=1e-5)
    assert np.abs(network.features(np.stack([gray[..., 0], *[0 * gray[..., 0]] * 2], -1)) - repeated).max() > 0.1


def test_precision(converted, monkeypatch):
    seen = []

    class Recorder:
        def apply(self, variables, x):
            seen.append(jax.config.jax_default_matmul_precision)
            return x[:, 0, 0], x[:, 0, 1]

    monkeypatch.setattr(inception, "InceptionV3", Recorder)
    inception.load_inception(converted).features(images(7, 1, 8, 8, 3))
    assert seen == ["highest"]


def test_that_precision_is_full_float32_on_a_gpu(shapes):
    tree = inception.unflatten_dict({name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}, sep="/")
    with jax.default_matmul_precision("highest"):
        traced = jax.jit(inception.InceptionV3().apply).trace(tree, jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32))
        program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("precision HIGHEST>, #stablehlo<precision HIGHEST>") == 94  # the convolutions
    assert program.count("precision = [HIGHEST, HIGHEST]") == 1  # the logits
    assert "DEFAULT" not in program


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "Inception's images must be uint8"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"Inception's images must be \[num, H, W, 1 or 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"Inception's images must be \[num, H, W, 1 or 3\]"),
    ],
)
def test_wrong_images(network, wrong, message):
    for function in (network.features, network.logits):
        with pytest.raises(ValueError, match=message):
            function(wrong)


def test_files_that_are_not_converted(converted, tmp_path):
    file = tmp_path / "w.safetensors"
    tensors = load_file(converted)
    metadata = {"name": "inception-2015-12-05", "sha256": "00", "weights": content(tensors), "version": "1"}

    def refused(message):
        with pytest.raises(UserError, match=re.escape(str(file)) + message) as error:
            inception.load_inception(file)
        assert "\n" not in str(error.value)

    def unreadable(message):
        with pytest.raises(UserError, match=f"cannot read {re.escape(str(file))}: {message}"):
            inception.load_inception(file)

    unreadable("No such file")
    file.write_bytes(b"not safetensors at all")
    unreadable("")
    file.write_bytes(converted.read_bytes()[:-1])
    unreadable("")
    for wrong in (None, {"name": "classifier"}):
        save_file({"w": np.zeros(2)}, file, wrong)
        refused(" holds no converted Inception")
    save_file(tensors, file, metadata | {"version": "0"})
    refused(" holds no converted Inception, or one of another version")
    kernel = tensors.pop("params/fc/kernel")
    for changed in ({}, {"params/fc/kernel": kernel.astype(np.float64)}, {"params/fc/kernel": np.nextafter(kernel, 1)}):
        save_file(tensors | changed, file, metadata)
        refused(" was changed after it was converted")
