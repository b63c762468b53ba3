"""jaxgen's TransGAN in PyTorch: the same networks, losses, passes and optimizers, for images of up to 48 pixels.

Attention and the look-up of its bias are written out, as in the authors' code: the kernels behind PyTorch's
`scaled_dot_product_attention` lack the second derivatives of a gradient penalty. DiffAugment and labels are left out.

Layers and parameters have the names of Flax's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[..., dict[str, Tensor]]


class MapAttention(nn.Module):
    """Attention among the pixels of a map of `size`, with a relative position bias; without it if `size` is None."""

    def __init__(self, heads: int, dim: int, size: tuple[int, int] | None):
        super().__init__()
        self.heads = heads
        self.Dense_0, self.Dense_1 = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.bias = None
        if size:
            height, width = size
            self.bias = nn.Parameter(torch.empty(2 * height - 1, 2 * width - 1, heads))
            row, column = torch.arange(height * width) // width, torch.arange(height * width) % width
            down, right = row[:, None] - row + height - 1, column[:, None] - column + width - 1
            self.register_buffer("index", down * (2 * width - 1) + right)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, tokens, dim] to the same."""
        batch, tokens, dim = x.shape
        queries, keys, values = self.Dense_0(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (queries @ keys.transpose(-2, -1)).float() * (dim // self.heads) ** -0.5
        if self.bias is not None:
            scores = scores + self.bias.flatten(0, 1)[self.index].permute(2, 0, 1)
        weights = scores.softmax(-1).to(values.dtype)
        return self.Dense_1((weights @ values).transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    """Attention and two dense layers, each after a LayerNorm and added to its input; with noise in D."""

    def __init__(self, heads: int, dim: int, size: tuple[int, int] | None, noisy: bool):
        super().__init__()
        self.LayerNorm_0, self.LayerNorm_1 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.MapAttention_0 = MapAttention(heads, dim, size)
        self.Dense_0, self.Dense_1 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.noise = nn.Parameter(torch.empty(())) if noisy else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, tokens, dim] to the same."""
        y = self.LayerNorm_0(x)
        if self.noise is not None:
            y = y + torch.randn(*x.shape[:2], 1, device=x.device) * self.noise
        x = x + self.MapAttention_0(y).float()
        return x + self.Dense_1(functional.gelu(self.Dense_0(self.LayerNorm_1(x)))).float()


class Generator(nn.Module):
    """G, from z [batch, latent_dim] to images; every doubling is a pixel shuffle."""

    def __init__(self, config: Any, image_shape: tuple[int, int, int]):
        super().__init__()
        height, width, channels = image_shape
        last, dim = len(config.depths) - 1, config.dim
        self.sizes = [(height >> last - stage, width >> last - stage) for stage in range(last + 1)]
        self.depths = config.depths
        self.Dense_0 = nn.Linear(config.latent_dim, self.sizes[0][0] * self.sizes[0][1] * dim)
        for stage, (size, depth) in enumerate(zip(self.sizes, config.depths, strict=True)):
            setattr(self, f"position_{stage}", nn.Parameter(torch.empty(size[0] * size[1], dim >> 2 * stage)))
            for level in range(depth):
                setattr(self, f"block_{stage}_{level}", Block(config.heads, dim >> 2 * stage, size, noisy=False))
        self.Dense_1 = nn.Linear(dim >> 2 * last, channels)

    def forward(self, z: Tensor) -> Tensor:
        """Maps noise [batch, latent_dim] to images [batch, channels, height, width]."""
        x = self.Dense_0(z).float().view(len(z), self.sizes[0][0] * self.sizes[0][1], -1)
        for stage, (height, width) in enumerate(self.sizes):
            if stage:
                x = x.transpose(1, 2).reshape(len(z), -1, height // 2, width // 2)
                x = functional.pixel_shuffle(x, 2).flatten(2).transpose(1, 2)
            x = x + getattr(self, f"position_{stage}")
            for level in range(self.depths[stage]):
                x = getattr(self, f"block_{stage}_{level}")(x)
        return self.Dense_1(x).float().transpose(1, 2).reshape(len(z), -1, height, width)


class Discriminator(nn.Module):
    """D, from images to logits [batch, 1]."""

    def __init__(self, config: Any, image_shape: tuple[int, int, int]):
        super().__init__()
        (height, width, channels), patch, dim = image_shape, config.patch, config.discriminator_dim
        self.patch, self.depth = patch, config.discriminator_depth
        self.size = height // patch, width // patch
        halved = self.size[0] // 2, self.size[1] // 2
        self.Dense_0 = nn.Linear(patch**2 * channels, dim - dim // 4)
        self.Dense_1 = nn.Linear((2 * patch) ** 2 * channels, dim // 4)
        for scale, (size, width) in enumerate(((self.size, dim - dim // 4), (halved, dim))):
            setattr(self, f"position_{scale}", nn.Parameter(torch.empty(size[0] * size[1], width)))
            for level in range(self.depth):
                setattr(self, f"block_{scale}_{level}", Block(config.heads, width, size, noisy=True))
        self.token = nn.Linear(1, dim, bias=False)
        self.block_token = Block(config.heads, dim, None, noisy=True)
        self.LayerNorm_0, self.Dense_2 = nn.LayerNorm(dim), nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [batch, channels, height, width] to logits [batch, 1]."""
        batch = len(x)

        def patches(side):
            parts = x.unfold(2, side, side).unfold(3, side, side)  # [batch, channels, rows, columns, side, side]
            return parts.permute(0, 2, 3, 4, 5, 1).reshape(batch, -1, side**2 * x.shape[1])

        def blocks(scale, tokens):
            tokens = tokens + getattr(self, f"position_{scale}")
            for level in range(self.depth):
                tokens = getattr(self, f"block_{scale}_{level}")(tokens)
            return tokens

        fine, coarse = self.Dense_0(patches(self.patch)).float(), self.Dense_1(patches(2 * self.patch)).float()
        fine = blocks(0, fine).transpose(1, 2).reshape(batch, -1, *self.size)
        fine = functional.avg_pool2d(fine, 2).flatten(2).transpose(1, 2)
        tokens = blocks(1, torch.cat([fine, coarse], -1))
        token = self.token(torch.ones(batch, 1, 1, device=x.device)).float()
        return self.Dense_2(self.LayerNorm_0(self.block_token(torch.cat([token, tokens], 1))[:, 0])).float()


def nets(config: Any, image_shape: tuple[int, int, int], layout: torch.memory_format) -> dict[str, nn.Module]:
    """Makes both networks; `config` is sized, and `layout` of no effect on tokens."""
    return {"generator": Generator(config, image_shape), "discriminator": Discriminator(config, image_shape)}


def step(config: Any, nets: dict[str, nn.Module], batch: Callable, autocast: Callable) -> Step:
    """Makes a step: `critic_steps` updates of D, one of G with fakes of its own, and one of G's average.

    `noise` is, if not drawn, (z of D's updates [critic_steps, n, latent_dim], shares of real images in the penalty's
    [critic_steps, n, 1, 1, 1], z of G's update).
    """
    G, D = nets["generator"], nets["discriminator"]
    rates = {G: config.generator_learning_rate, D: config.discriminator_learning_rate}
    adam = {
        net: torch.optim.Adam(net.parameters(), rate, (config.beta1, config.beta2), eps=1e-8, fused=True)
        for net, rate in rates.items()
    }
    average, updates = [parameter.detach().clone() for parameter in G.parameters()], 0

    def descend(net: nn.Module, loss: Tensor) -> None:
        adam[net].zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        adam[net].step()

    def critic_turn(real: Tensor, z: Tensor, share: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), autocast():
            fake = G(z)
        between = (share * real + (1 - share) * fake).requires_grad_(True)
        with autocast():
            of_real, of_fake, of_between = D(real), D(fake), D(between)
        (slopes,) = torch.autograd.grad(of_between.sum(), between, create_graph=True)
        loss = (of_fake - of_real).mean()
        penalty = ((slopes.flatten(1).norm(dim=1) - 1) ** 2).mean()
        drift = of_real.mean() ** 2
        descend(D, loss + config.penalty_weight * penalty + config.drift * drift)
        return {"discriminator_loss": loss.detach(), "penalty": penalty.detach(), "drift": drift.detach()}

    def take(indices: Tensor, noise: tuple[Tensor, Tensor, Tensor] | None = None) -> dict[str, Tensor]:
        nonlocal updates
        parts = (batch(indices) / 127.5 - 1).chunk(config.critic_steps)
        (n, *_), on = parts[0].shape, parts[0].device
        if noise is None:
            z = torch.randn(config.critic_steps, n, config.latent_dim, device=on)
            shares = torch.rand(config.critic_steps, n, 1, 1, 1, device=on)
            fresh = torch.randn(config.generator_batch or n, config.latent_dim, device=on)
        else:
            z, shares, fresh = noise
        for part, each, share in zip(parts, z, shares, strict=True):
            metrics = critic_turn(part, each, share)
        D.requires_grad_(False)  # G's update needs only the gradient with respect to the images
        with autocast():
            loss = -D(G(fresh)).mean()
        descend(G, loss)
        D.requires_grad_(True)
        half_life = min(config.average_half_life, config.average_warmup * updates)
        updates += 1
        with torch.no_grad():
            share = 1 - 0.5 ** (1 / half_life) if half_life else 1.0
            torch._foreach_lerp_(average, list(G.parameters()), share)
        return metrics | {"generator_loss": loss.detach()}

    return take
