"""jaxgen's gated PixelCNN and image Transformer in PyTorch, over images of bits with one channel.

The networks, losses and optimizers are those of jaxgen: no dropout, no label, a clipped gradient, Adam. Modules have
the names of Flax's parameters. PyTorch computes a Transformer's attention by its own kernel for the device.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jaxgen.errors import UserError
from jaxgen.model import BINARY_THRESHOLD


class MaskedConv(nn.Conv2d):
    """Convolution over `rows` rows, the last being the pixel's own, from `left` columns before to `right` after it.

    With `hides_pixel` the pixel itself has no weight (mask A). Other masks hide nothing of an image of one channel, if
    the kernel ends at the pixel.
    """

    def __init__(self, inputs: int, features: int, rows=1, left=0, right=0, *, hides_pixel: bool = False):
        super().__init__(inputs, features, (rows, left + 1 + right))
        self.around, self.hides_pixel = (left, right, rows - 1, 0), hides_pixel

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inputs, height, width] to [batch, features, height, width]."""
        x = functional.pad(x, self.around) if any(self.around) else x
        weight = self.weight
        if self.hides_pixel:  # the last weight of the row
            weight = functional.pad(weight[..., :-1], (0, 1))
        return functional.conv2d(x, weight, self.bias)


class GatedLayer(nn.Module):
    """Layer of the gated PixelCNN: a vertical and a horizontal stack."""

    def __init__(self, config: Any, first: bool, last: bool):
        super().__init__()
        width, inputs = config.features, 1 if first else config.features
        reach = (config.first_kernel if first else config.kernel) // 2
        self.first, self.last = first, last
        self.vertical = MaskedConv(inputs, 2 * width, reach + 1, reach, reach)
        self.horizontal = MaskedConv(inputs, 2 * width, left=reach, hides_pixel=first)
        self.link = MaskedConv(2 * width, 2 * width)
        if not last:
            self.residual = MaskedConv(width, width)
        self.skip = MaskedConv(width, width)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps both stacks' features to (vertical, horizontal, skip connection)."""
        v = self.vertical(v)
        a = _gated(self.horizontal(h) + self.link(v))
        if not self.last:
            h = self.residual(a) if self.first else h + self.residual(a)
        return _gated(v), h, self.skip(a)


def _gated(x: Tensor) -> Tensor:
    f, g = x.chunk(2, dim=1)
    return torch.tanh(f) * torch.sigmoid(g)


class GatedPixelCNN(nn.Module):
    """Bits [batch, 1, height, width] to logits of the same shape."""

    def __init__(self, config: Any):
        super().__init__()
        self.depth = config.layers
        for n in range(1 + self.depth):
            self.add_module(f"stack_{n}", GatedLayer(config, n == 0, n == self.depth))
        layers = {"MaskedConv_0": MaskedConv(config.features, config.head_features)}
        self.readout = nn.ModuleDict(layers | {"MaskedConv_1": MaskedConv(config.head_features, 1)})

    def forward(self, bits: Tensor) -> Tensor:
        """Logits of each bit, given those before it in raster order."""
        h = 2 * bits - 1
        v = functional.pad(h, (0, 0, 1, 0))[:, :, :-1]
        skips = 0
        for n in range(1 + self.depth):
            v, h, skip = getattr(self, f"stack_{n}")(v, h)
            skips = skips + skip
        x = functional.relu(self.readout["MaskedConv_0"](functional.relu(skips)))
        return self.readout["MaskedConv_1"](x).float()


class Block(nn.Module):
    """Causal attention and two dense layers, each after a LayerNorm and added to its input."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.LayerNorm_0, self.LayerNorm_1 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.Dense_0, self.Dense_1 = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.Dense_2, self.Dense_3 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, length, dim] to the same."""
        batch, length, dim = x.shape
        y = self.Dense_0(self.LayerNorm_0(x)).view(batch, length, 3, self.heads, dim // self.heads)
        queries, keys, values = y.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.Dense_1(y.transpose(1, 2).reshape(batch, length, dim)).float()
        y = functional.gelu(self.Dense_2(self.LayerNorm_1(x)), approximate="tanh")
        return x + self.Dense_3(y).float()


class Transformer(nn.Module):
    """Bits [batch, 1, height, width] to logits of the same shape; each bit is a token."""

    def __init__(self, config: Any, height: int, width: int):
        super().__init__()
        self.depth, dim = config.layers, config.dim
        self.value = nn.Embedding(2, dim)
        self.row, self.column, self.group = nn.Embedding(height, dim), nn.Embedding(width, dim), nn.Embedding(1, dim)
        self.start = nn.Parameter(torch.empty(dim))
        for n in range(self.depth):
            self.add_module(f"blocks_{n}", Block(dim, config.heads))
        self.norm, self.readout = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 1)

    def forward(self, bits: Tensor) -> Tensor:
        """Logits of each bit, given those before it in raster order."""
        batch, _, height, width = bits.shape
        earlier = self.value(bits.reshape(batch, -1)[:, :-1].long())
        place = (self.row.weight[:, None] + self.column.weight + self.group.weight).view(height * width, -1)
        x = torch.cat([self.start.expand(batch, 1, -1), earlier], dim=1) + place
        for n in range(self.depth):
            x = getattr(self, f"blocks_{n}")(x)
        return self.readout(self.norm(x)).float().view(bits.shape)


def nets(model: str, config: Any, image_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    """Makes the network of that name; raises UserError for images that have more than one channel."""
    height, width, channels = image_shape
    if channels > 1:
        raise UserError(f"PyTorch's {model} is of images with one channel: --channels 1")
    network = GatedPixelCNN(config) if model == "pixelcnn" else Transformer(config, height, width)
    return {"network": network}


def step(config: Any, nets: dict[str, nn.Module], batch: Callable, autocast: Callable) -> Callable:
    """Makes a training step on images thresholded to bits, as `torch_peers.Step`; it draws no noise."""
    parameters = list(nets["network"].parameters())
    adam = torch.optim.Adam(parameters, config.learning_rate, eps=1e-8, fused=True)

    def take(indices, noise=None):
        bits = (batch(indices) >= BINARY_THRESHOLD).float()
        with autocast():
            logits = nets["network"](bits)
        loss = functional.binary_cross_entropy_with_logits(logits, bits, reduction="sum") / len(bits)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.clip)
        adam.step()
        return {"loss": loss.detach()}

    return take
