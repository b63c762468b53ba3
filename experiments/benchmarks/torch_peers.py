"""jaxgen's models in PyTorch, written for speed: the same networks, losses, passes and optimizers.

DCGAN, the dense GAN and the VAE are here; the others in `torch_classifier`, `torch_autoregressive`, `torch_transgan`.

A step gathers its batch from uint8 images in memory, draws its noise, and never waits for the device. D's weight
gradients are skipped in G's update. BatchNorm's running averages, which no training step reads, differ from jaxgen's in
two details: PyTorch's variances are unbiased, and D's averages also move in G's update.

Layers have the names of Flax's parameters, so that `load` finds them.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jaxgen.errors import UserError
from jaxgen.model import BINARY_THRESHOLD, PyTree
from jaxgen.nn.image import pyramid

from . import torch_autoregressive, torch_classifier, torch_transgan
from .contenders import Data
from .timing import Contender

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

ONLY: dict[str, dict[str, Any]] = {
    "gan": {"optimizer": "adam", "prior": "uniform", "pieces": 1, "dropout": 0.0, "beta2": 0.999}
    | {"generator_batch_norm": False, "packing": 1, "unrolled": 0},
    "classifier": {"network": "resnet", "label_smoothing": 0.0, "l2": 0.0, "decay_steps": None},
}
"""Map from model to the fields of its Config whose other values PyTorch's lacks."""

AUTOREGRESSIVE = ("pixelcnn", "transformer")

CONVOLUTION = {"kernel_size": 4, "stride": 2, "padding": 1}  # "SAME", where the image's size is even

Step = Callable[..., dict[str, Tensor]]


class Peer(NamedTuple):
    """A model in training."""

    nets: dict[str, nn.Module]  # keyed as in jaxgen's parameters
    step: Step  # (indices int64 [batch], noise=None) -> metrics, on the device


class Map(nn.Module):
    """Reshapes [batch, height * width * channels], in Flax's order, to [batch, channels, height, width]."""

    def __init__(self, height: int, width: int, channels: int, layout: torch.memory_format):
        super().__init__()
        self.shape, self.layout = (-1, height, width, channels), layout

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, features] to [batch, channels, height, width]."""
        return x.view(self.shape).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)


class Vector(nn.Module):
    """Flattens [batch, channels, height, width] to [batch, height * width * channels], in Flax's order."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, channels, height, width] to [batch, features]."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Encoder(nn.Module):
    """Encoder q(z|x), from images to mean and log-variance."""

    def __init__(self, config: Any, image_shape: tuple[int, int, int]):
        super().__init__()
        (height, width), depth = pyramid(image_shape, config.smallest, "vae")
        layers, channels = OrderedDict(), image_shape[-1]
        for level in range(depth):
            features = config.features << level
            layers[f"Conv_{level}"] = nn.Conv2d(channels, features, **CONVOLUTION)
            layers[f"relu_{level}"] = nn.ReLU(inplace=True)
            channels = features
        self.trunk = nn.Sequential(layers | {"vector": Vector()})
        self.Dense_0 = nn.Linear(height * width * channels, config.latent_dim)
        self.Dense_1 = nn.Linear(height * width * channels, config.latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x [batch, channels, height, width] to mean and log-variance, each [batch, latent_dim]."""
        x = self.trunk(x)
        return self.Dense_0(x).float(), 8 * torch.tanh(self.Dense_1(x).float() / 8)


class Decoder(nn.Module):
    """Decoder p(x|z), from latents to logits."""

    def __init__(self, config: Any, image_shape: tuple[int, int, int], layout: torch.memory_format):
        super().__init__()
        *size, channels = image_shape
        (height, width), depth = pyramid(image_shape, config.smallest, "vae")
        features = config.features << (depth - 1)
        layers = OrderedDict(
            Dense_0=nn.Linear(config.latent_dim, height * width * features),
            relu=nn.ReLU(inplace=True),
            map=Map(height, width, features, layout),
        )
        for n, level in enumerate(reversed(range(depth - 1))):
            layers[f"ConvTranspose_{n}"] = nn.ConvTranspose2d(features, config.features << level, **CONVOLUTION)
            layers[f"relu_{n}"] = nn.ReLU(inplace=True)
            features = config.features << level
        layers[f"ConvTranspose_{depth - 1}"] = nn.ConvTranspose2d(features, channels, bias=False, **CONVOLUTION)
        self.layers = nn.Sequential(layers)
        self.bias = nn.Parameter(torch.empty(1, channels, *size))

    def forward(self, z: Tensor) -> Tensor:
        """Maps latents z [batch, latent_dim] to logits [batch, channels, height, width]."""
        return self.layers(z).float() + self.bias


def generator(config: Any, image_shape: tuple[int, int, int], layout: torch.memory_format) -> nn.Module:
    """Makes G, from z [batch, latent_dim] to images in (-1, 1)."""
    (height, width), depth = pyramid(image_shape, config.smallest, "dcgan")
    features = config.features << (depth - 1)
    layers = OrderedDict(
        Dense_0=nn.Linear(config.latent_dim, height * width * features, bias=False),
        map=Map(height, width, features, layout),
        BatchNorm_0=nn.BatchNorm2d(features),
        relu_0=nn.ReLU(inplace=True),
    )
    for n, level in enumerate(reversed(range(depth - 1))):
        narrower = config.features << level
        layers[f"ConvTranspose_{n}"] = nn.ConvTranspose2d(features, narrower, bias=False, **CONVOLUTION)
        layers[f"BatchNorm_{n + 1}"] = nn.BatchNorm2d(narrower)
        layers[f"relu_{n + 1}"] = nn.ReLU(inplace=True)
        features = narrower
    layers[f"ConvTranspose_{depth - 1}"] = nn.ConvTranspose2d(features, image_shape[-1], **CONVOLUTION)
    return nn.Sequential(layers | {"tanh": nn.Tanh()})


def discriminator(config: Any, image_shape: tuple[int, int, int]) -> nn.Module:
    """Makes D, from images to logits [batch, 1]."""
    (height, width), depth = pyramid(image_shape, config.smallest, "dcgan")
    layers, channels = OrderedDict(), image_shape[-1]
    for level in range(depth):
        features = config.features << level
        layers[f"Conv_{level}"] = nn.Conv2d(channels, features, bias=level == 0, **CONVOLUTION)
        if level > 0:
            layers[f"BatchNorm_{level - 1}"] = nn.BatchNorm2d(features)
        layers[f"leaky_relu_{level}"] = nn.LeakyReLU(0.2, inplace=True)
        channels = features
    return nn.Sequential(layers | {"vector": Vector(), "Dense_0": nn.Linear(height * width * channels, 1)})


class DenseGenerator(nn.Module):
    """G of the dense GAN, from uniform z to images in (0, 1), flat in Flax's order."""

    def __init__(self, config: Any, image_shape: tuple[int, int, int]):
        super().__init__()
        layers, units = OrderedDict(), config.latent_dim
        for n in range(config.generator_layers):
            layers[f"Dense_{n}"] = nn.Linear(units, config.generator_units)
            layers[f"relu_{n}"] = nn.ReLU(inplace=True)
            units = config.generator_units
        layers[f"Dense_{config.generator_layers}"] = nn.Linear(units, math.prod(image_shape), bias=False)
        self.layers = nn.Sequential(layers)
        self.marginals = nn.Parameter(torch.empty(image_shape))

    def forward(self, z: Tensor) -> Tensor:
        """Maps z [batch, latent_dim], in (-1, 1), to [batch, height * width * channels]."""
        return torch.sigmoid(self.layers(z * 3**0.5).float() + self.marginals.flatten())


def dense_discriminator(config: Any, image_shape: tuple[int, int, int]) -> nn.Module:
    """Makes D of the dense GAN, from flat images to logits [batch, 1]."""
    layers, units = OrderedDict(), math.prod(image_shape)
    for n in range(config.discriminator_layers):
        layers[f"Dense_{n}"] = nn.Linear(units, config.discriminator_units)
        layers[f"relu_{n}"] = nn.ReLU(inplace=True)
        units = config.discriminator_units
    return nn.Sequential(layers | {f"Dense_{config.discriminator_layers}": nn.Linear(units, 1)})


def load(nets: dict[str, nn.Module], params: PyTree) -> None:
    """Copies jaxgen's parameters, {net: {layer: {"kernel", "bias", "scale", ...}}} or deeper, into the networks."""
    for name, net in nets.items():
        whole = dict(net.named_modules())
        modules = {path.rpartition(".")[2]: layer for path, layer in whole.items()} | whole
        for path, value in jax.tree_util.tree_flatten_with_path(params[name])[0]:
            *layer, kind = (part.key for part in path)
            module, value = modules[".".join(layer)], np.asarray(value)
            parameter = getattr(module, "weight" if kind in ("kernel", "scale", "embedding") else kind)
            if kind == "kernel":
                value = _as_torch(value)
            elif parameter.ndim == 4:  # the decoder's own bias, one value per pixel
                value = np.transpose(value, (2, 0, 1))[None]
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.array(value)))


def _as_torch(value: np.ndarray) -> np.ndarray:
    """Transposes kernels [in, out] to [out, in], and [kh, kw, in, out] to [out, in, kh, kw].

    Kernels of transposed convolutions go from [kh, kw, out, in] to [in, out, kh, kw].
    """
    return np.transpose(value, (3, 2, 0, 1)) if value.ndim == 4 else value.T


def device() -> torch.device:
    """Returns JAX's device for PyTorch, and allows TF32 products on a GPU, as JAX does by default.

    Raises UserError if JAX runs on a GPU and PyTorch cannot.
    """
    if jax.default_backend() == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(f"JAX runs on {jax.devices()[0].device_kind}, where this PyTorch cannot: no fair comparison")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def peer(model: str, config: Any, data: Data, params: PyTree, layout: str, *, compiled: bool = False) -> Peer:
    """Makes a model with jaxgen's config and parameters on JAX's device; autocasts to bfloat16 if the spec asks for it.

    Args:
        model: dcgan or transgan (without augmentation); gan (Adam, ReLU, no dropout); classifier (resnet without label
            smoothing or l2); vae, pixelcnn or transformer, with binary pixels.
        config: jaxgen's Config of that model; of transgan `sized`.
        data: the images and their spec.
        params: parameters of one seed's jaxgen state.
        layout: a name of `FORMATS`.
        compiled: applies torch.compile to each network.
    """
    for field, value in ONLY.get(model, {}).items():
        if getattr(config, field) != value:
            raise UserError(f"PyTorch's {model} has {field} {value} only, not {getattr(config, field)}")
    on, memory_format = device(), FORMATS[layout]
    shape = data.spec.image_shape
    if model in AUTOREGRESSIVE:
        nets, make_step = torch_autoregressive.nets(model, config, shape), torch_autoregressive.step
        params = {"network": params}
    elif model == "classifier":
        nets = {"network": torch_classifier.ResNet(config, shape[-1], data.spec.num_classes)}
        make_step = partial(torch_classifier.step, torch.from_numpy(data.labels).to(on, torch.int64))
        params = {"network": params}
    else:
        make_nets, make_step = {
            "dcgan": (_dcgan_nets, _dcgan_step),
            "gan": (_gan_nets, _gan_step),
            "vae": (_vae_nets, _vae_step),
            "transgan": (torch_transgan.nets, torch_transgan.step),
        }[model]
        nets = make_nets(config, shape, memory_format)
    load(nets, params)
    nets = {name: net.to(on, memory_format=memory_format) for name, net in nets.items()}
    if compiled:
        nets = {name: torch.compile(net) for name, net in nets.items()}
    images = torch.from_numpy(data.images).to(on).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)

    def batch(indices: Tensor) -> Tensor:
        return images[indices].contiguous(memory_format=memory_format)

    autocast = partial(torch.autocast, on.type, torch.bfloat16, enabled=data.spec.compute_dtype == "bfloat16")
    return Peer(nets, make_step(config, nets, batch, autocast))


def contender(step: Step, indices: np.ndarray) -> Contender:
    """Runs a peer's steps in sequence, cycling through the rows of `indices`."""
    on = device()
    rows = list(torch.from_numpy(indices).to(on, torch.int64))

    def run(steps: int) -> None:
        for n in range(steps):
            step(rows[n % len(rows)])
        if on.type == "cuda":
            torch.cuda.synchronize()

    return run


def _adam(net: nn.Module, learning_rate: float, beta1: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), learning_rate, (beta1, 0.999), eps=1e-8, fused=True)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _dcgan_nets(config: Any, image_shape: tuple[int, int, int], layout: torch.memory_format) -> dict[str, nn.Module]:
    return {"generator": generator(config, image_shape, layout), "discriminator": discriminator(config, image_shape)}


def _dcgan_step(config: Any, nets: dict[str, nn.Module], batch: Callable, autocast: Callable) -> Step:
    rates = config.generator_learning_rate, config.discriminator_learning_rate
    return _adversarial_step(config, nets, lambda indices: batch(indices) / 127.5 - 1, autocast, rates)


def _gan_nets(config: Any, image_shape: tuple[int, int, int], layout: torch.memory_format) -> dict[str, nn.Module]:
    return {"generator": DenseGenerator(config, image_shape), "discriminator": dense_discriminator(config, image_shape)}


def _gan_step(config: Any, nets: dict[str, nn.Module], batch: Callable, autocast: Callable) -> Step:
    def real(indices):
        return batch(indices).permute(0, 2, 3, 1).flatten(1) / 255

    return _adversarial_step(config, nets, real, autocast, (config.learning_rate or 2e-4,) * 2)


def _adversarial_step(
    config: Any, nets: dict[str, nn.Module], batch: Callable, autocast: Callable, rates: tuple[float, float]
) -> Step:
    """Step of a non-saturating game: D's turn, then G's; `batch` gives real images in G's range."""
    G, D = nets["generator"], nets["discriminator"]
    g_adam, d_adam = (_adam(net, rate, config.beta1) for net, rate in zip((G, D), rates, strict=True))

    def step(indices, noise=None):
        real = batch(indices)
        z = real.new_empty(len(real), config.latent_dim).uniform_(-1, 1) if noise is None else noise
        with autocast():
            fake = G(z)
            real_logits, fake_logits = D(real).float(), D(fake.detach()).float()
        d_loss = (functional.softplus(-real_logits) + functional.softplus(fake_logits)).mean()
        _descend(d_adam, d_loss)

        D.requires_grad_(False)  # G's update needs only the gradient with respect to the images
        with autocast():
            logits = D(fake).float()
        g_loss = functional.softplus(-logits).mean()
        _descend(g_adam, g_loss)
        D.requires_grad_(True)
        return {
            "discriminator_loss": d_loss.detach(),
            "real_score": real_logits.detach().sigmoid().mean(),
            "fake_score": fake_logits.detach().sigmoid().mean(),
            "generator_loss": g_loss.detach(),
        }

    return step


def _vae_nets(config: Any, image_shape: tuple[int, int, int], layout: torch.memory_format) -> dict[str, nn.Module]:
    return {"encoder": Encoder(config, image_shape), "decoder": Decoder(config, image_shape, layout)}


def _vae_step(config: Any, nets: dict[str, nn.Module], batch: Callable, autocast: Callable) -> Step:
    encoder, decoder = nets["encoder"], nets["decoder"]
    adam = _adam(nn.ModuleDict(nets), config.learning_rate)

    def step(indices, noise=None):
        x = (batch(indices) >= BINARY_THRESHOLD).float()
        with autocast():
            mean, log_variance = encoder(x)
            eps = torch.randn_like(mean) if noise is None else noise
            logits = decoder(mean + torch.exp(log_variance / 2) * eps)
        reconstruction = -functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum() / len(x)
        loss = kl - reconstruction
        _descend(adam, loss)
        return {"loss": loss.detach(), "reconstruction": reconstruction.detach(), "kl": kl.detach()}

    return step
