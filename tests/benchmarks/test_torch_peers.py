"""A step in PyTorch equals jaxgen's: the same parameters, batch and noise give the same metrics and parameters."""

import jax
import numpy as np
import pytest
from jaxgen.experiments.benchmarks import contenders, flops

from jaxgen import models
from jaxgen.errors import UserError
from jaxgen.models import dcgan, transgan

torch = pytest.importorskip("torch", reason="PyTorch comes with the extra bench")

from jaxgen.experiments.benchmarks import torch_peers  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

CONFIGS = {
    "gan": {"optimizer": "adam", "learning_rate": 1e-3, "pieces": 1, "dropout": 0.0}
    | {"generator_units": 12, "discriminator_units": 10},
    "classifier": {"network": "resnet", "features": 4, "blocks": 2, "weight_decay": 0.9},
}
"""Configs of models that have other fields than features, or options that PyTorch's lack."""


@pytest.mark.parametrize(
    ("name", "size", "precision"),
    [
        ("dcgan", 32, "float32"),
        ("vae", 16, "float32"),
        ("gan", 8, "float32"),
        ("classifier", 8, "float32"),
        ("classifier", 10, "float32"),  # whose maps of 5x5 pixels are halved too
        ("dcgan", 16, "bfloat16"),
        ("vae", 16, "bfloat16"),
    ],
)
def test_a_step_is_jaxgens(name, size, precision, untrained):
    module, data = models.load(name), contenders.made_up(32, size, 3, 8, precision)
    config = module.Config(**CONFIGS.get(name, {"features": 4}))
    training = untrained(module.make(config, data.spec), data)
    key, state, _, row, _ = training.operands
    before = jax.device_get(state.params)
    after, expected = jax.device_get(contenders.one_step(training.phase)(*training.operands))
    drawn = None
    if name != "classifier":
        drawn = torch.from_numpy(np.array(noise(name, jax.random.fold_in(key, 0), (8, config.latent_dim))))
    rate = config.generator_learning_rate if name == "dcgan" else config.learning_rate
    for layout in torch_peers.FORMATS:
        peer = torch_peers.peer(name, config, data, before, layout)
        dtypes = maps_dtypes(peer.nets)
        metrics = peer.step(torch.from_numpy(np.array(row, np.int64)), drawn)
        assert dtypes == ({getattr(torch, precision)} if name != "gan" else set())  # of convolutions
        assert metrics.keys() >= {name for name in expected if "loss" in name}
        for metric, value in metrics.items():  # jaxgen's step has further diagnostics
            tolerance = 1e-4 if precision == "float32" else 1e-2
            np.testing.assert_allclose(float(value), expected[metric], rtol=tolerance, err_msg=metric)
        if precision == "bfloat16":  # its rounding flips signs in Adam's first step
            continue
        there, here = (torch_peers.peer(name, config, data, params, layout) for params in (after.params, before))
        decay = 0.1 if name == "classifier" else 0.0  # of weights of a tenth, beside Adam's steps of the rate
        assert np.median(distances(peer.nets, here.nets)) == pytest.approx(rate, rel=0.01 + decay)
        apart = distances(peer.nets, there.nets)
        assert np.quantile(apart, 0.999) < 0.01 * rate
        assert apart.max() <= 2.01 * rate


SMALL = {
    "pixelcnn": {"features": 4, "layers": 2, "head_features": 3},
    "transformer": {"dim": 8, "heads": 2, "layers": 2},
}
"""Configs of autoregressive models."""


@pytest.mark.parametrize("name", SMALL)
def test_steps_of_autoregressive_models_are_jaxgens(name, untrained):
    """Losses before and after an update; gradients, by the update of all parameters but those that have none."""
    module, data = models.load(name), contenders.made_up(32, 6, 1, 8)
    config = module.Config(**SMALL[name], learning_rate=0.01)
    training = untrained(module.make(config, data.spec), data)
    program, (key, state, *arrays, _, weight) = contenders.one_step(training.phase), training.operands
    before = jax.device_get(state.params)
    after, first = jax.device_get(program(key, state, *arrays, training.data.rows[0], weight))
    second = jax.device_get(program(key, after, *arrays, training.data.rows[1], weight))[1]
    for layout in torch_peers.FORMATS:
        peer = torch_peers.peer(name, config, data, before, layout)
        losses = [float(peer.step(torch.from_numpy(data.indices[n].astype(np.int64)))["loss"]) for n in range(2)]
        np.testing.assert_allclose(losses, [first["loss"], second["loss"]], rtol=1e-4)
        there = torch_peers.peer(name, config, data, before, layout)
        there.step(torch.from_numpy(data.indices[0].astype(np.int64)))
        apart = distances(there.nets, torch_peers.peer(name, config, data, after.params, layout).nets)
        assert np.mean(apart < 1e-4) > 0.95  # the keys' bias moves no loss, so its gradient is rounding


@pytest.mark.parametrize(("name", "fields"), [("gan", {"dropout": 0.5}), ("classifier", {"l2": 0.1})])
def test_what_pytorchs_lack_is_refused(name, fields):
    config = models.load(name).Config(**CONFIGS[name] | fields)
    with pytest.raises(UserError, match=f"PyTorch's {name} has {next(iter(fields))} 0.0 only"):
        torch_peers.peer(name, config, contenders.made_up(8, 8, 3, 4), {}, "contiguous")


def test_images_of_one_channel_only(untrained):
    config, data = models.load("pixelcnn").Config(features=4), contenders.made_up(8, 6, 3, 4)
    with pytest.raises(UserError, match="--channels 1"):
        torch_peers.peer("pixelcnn", config, data, {}, "contiguous")


TOKENS = {
    **{"dim": 32, "depths": (1, 2), "discriminator_dim": 16, "discriminator_depth": 1, "heads": 2, "latent_dim": 3},
    **{"critic_steps": 1, "augment": (), "generator_batch": 6},
}


def test_a_step_of_transgan_is_jaxgens(untrained):
    """D's scales of noise are 0, as where they begin, and how they move depends on the noise."""
    data = contenders.made_up(32, 8, 3, 8)
    config = transgan.sized(transgan.Config(**TOKENS), data.spec)
    training = untrained(transgan.make(config, data.spec), data)
    quiet = jax.tree.map_with_path(
        lambda path, leaf: leaf * (path[-1].key != "noise"), training.state.params["discriminator"]
    )
    training = training._replace(
        state=training.state._replace(params={**training.state.params, "discriminator": quiet})
    )
    key, state, _, row, _ = training.operands
    before = jax.device_get(state.params)
    after, expected = jax.device_get(contenders.one_step(training.phase)(*training.operands))
    k_fakes, k_discriminator, k_generator = jax.random.split(jax.random.fold_in(key, 0), (1, 3))[0]
    noise = (
        jax.random.normal(k_fakes, (1, 8, 3)),
        jax.random.uniform(jax.random.split(k_discriminator, 5)[2], (1, 8, 1, 1, 1)),
        jax.random.normal(jax.random.split(k_generator)[0], (6, 3)),
    )
    drawn = tuple(torch.from_numpy(np.array(part)) for part in noise)
    peer = torch_peers.peer("transgan", config, data, before, "contiguous")
    metrics = peer.step(torch.from_numpy(np.array(row, np.int64)), drawn)
    assert set(metrics) == {"discriminator_loss", "penalty", "drift", "generator_loss"}
    for metric, value in metrics.items():
        np.testing.assert_allclose(float(value), expected[metric], rtol=1e-3, err_msg=metric)
    there, here = (torch_peers.peer("transgan", config, data, p, "contiguous") for p in (after.params, before))
    assert np.median(distances(peer.nets, here.nets)) == pytest.approx(1e-4, rel=0.01)
    apart = distances(peer.nets, there.nets)
    assert np.quantile(apart, 0.99) < 0.01 * 1e-4
    assert apart.max() <= 2.01e-4


def maps_dtypes(nets):
    """Collects the dtypes of all convolutions' outputs in a set."""
    seen = set()
    for layer in torch.nn.ModuleDict(nets).modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, inputs, output: seen.add(output.dtype))
    return seen


def noise(name, key, shape):
    """Noise that jaxgen's step draws from its key."""
    if name in ("dcgan", "gan"):
        return jax.random.uniform(jax.random.split(key, (1, 3))[0, 0], shape, minval=-1, maxval=1)
    return jax.random.normal(key, shape)


def distances(nets, others):
    pairs = zip(*(torch.nn.ModuleDict(n).parameters() for n in (nets, others)), strict=True)
    return np.concatenate([(a - b).abs().detach().numpy().ravel() for a, b in pairs])


@pytest.mark.parametrize("name", ["dcgan", "vae"])
def test_a_step_has_jaxgens_operations(name, untrained, monkeypatch):
    """The counts include products with a convolution's padding, as in PyTorch's counter."""
    monkeypatch.setattr(flops, "taps", lambda size, kernel, stride, lo, outputs: kernel * outputs)
    module, data = models.load(name), contenders.made_up(8, 16, 3, 4)
    config = module.Config(features=4)
    training = untrained(module.make(config, data.spec), data)
    expected = flops.useful_flops(contenders.one_step(training.phase), *training.operands)
    for layout in torch_peers.FORMATS:
        peer = torch_peers.peer(name, config, data, training.operands[1].params, layout)
        with FlopCounterMode(display=False) as counter:
            peer.step(torch.arange(4))
        assert counter.get_total_flops() == expected


@pytest.mark.parametrize("name", ["dcgan", "vae", "transgan", *SMALL])
def test_every_parameter_is_loaded(name, untrained):
    """No parameter keeps PyTorch's initial value."""
    module, data = models.load(name), contenders.made_up(8, 16, 1 if name in SMALL else 3, 4)
    small = SMALL | {"transgan": TOKENS | {"generator_batch": 4}}
    config = module.Config(**small.get(name, {"features": 4}))
    params = untrained(module.make(config, data.spec), data).operands[1].params
    peer = torch_peers.peer(
        name, config, data, jax.tree.map(lambda leaf: np.full(leaf.shape, 7.0), params), "contiguous"
    )
    parameters = list(torch.nn.ModuleDict(peer.nets).parameters())
    assert all((parameter == 7).all() for parameter in parameters)
    assert sum(parameter.numel() for parameter in parameters) == sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.fixture
def gan(untrained):
    """Makes a function from a memory format to the DCGAN in it."""
    config, data = dcgan.Config(features=4, smallest=4), contenders.made_up(8, 16, 3, 4)
    params = untrained(dcgan.make(config, data.spec), data).operands[1].params
    return lambda layout: torch_peers.peer("dcgan", config, data, params, layout)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_every_map_has_the_memory_format(layout, gan):
    nets, seen = gan(layout).nets, []
    for layer in torch.nn.ModuleDict(nets).modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    nets["discriminator"](nets["generator"](torch.zeros(4, 100)))
    assert len(seen) == 2 * 4
    assert all(images.is_contiguous(memory_format=torch_peers.FORMATS[layout]) for images in seen)


def test_d_moves_in_its_own_turn_only(gan):
    peer = gan("contiguous")
    D = peer.nets["discriminator"]
    before = [parameter.detach().clone() for parameter in D.parameters()]
    torch_peers.contender(peer.step, np.zeros((5, 4), np.int32))(1)
    assert all(parameter.requires_grad for parameter in D.parameters())
    moved = [(a - b).abs().max().item() for a, b in zip(before, [p.detach() for p in D.parameters()], strict=True)]
    assert min(moved) > 0
    assert max(moved) < 1.01 * 2e-4  # Adam's first step has the size of the learning rate


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns
def test_compiled_is_the_same_step(untrained):
    config, data = dcgan.Config(features=4), contenders.made_up(8, 16, 3, 4)
    params = untrained(dcgan.make(config, data.spec), data).operands[1].params
    z, row = torch.zeros(4, 100).uniform_(-1, 1), torch.arange(4)
    plain, compiled = (
        torch_peers.peer("dcgan", config, data, params, "channels_last", compiled=compiled).step(row, z)
        for compiled in (False, True)
    )
    for metric, value in plain.items():
        assert compiled[metric].item() == pytest.approx(value.item(), rel=1e-4)


def test_pytorch_on_a_cpu_is_not_set_against_jax_on_a_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="where this PyTorch cannot"):
        torch_peers.device()
