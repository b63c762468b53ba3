"""jaxgen's ResNet classifier in PyTorch: the same network, loss and AdamW.

Modules have the names of Flax's parameters.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 3  # sizes of the maps


class ResNet(nn.Module):
    """A convolution, `blocks` residual blocks at each of three sizes, the mean of their maps, and a dense layer."""

    def __init__(self, config: Any, channels: int, classes: int):
        super().__init__()
        self.layers: OrderedDict[str, nn.Module] = OrderedDict()
        self.strides = [2 if level and not block else 1 for level in range(LEVELS) for block in range(config.blocks)]
        self._convolve(channels, config.features)
        features = config.features
        for n, stride in enumerate(self.strides):
            wider = config.features << (n // config.blocks)
            self._convolve(features, wider, stride=stride)
            self._convolve(wider, wider)
            if stride > 1:
                self._convolve(features, wider, size=1, stride=stride)
            features = wider
        self.layers["Dense_0"] = nn.Linear(features, classes)
        for name, layer in self.layers.items():
            self.add_module(name, layer)

    def _convolve(self, channels: int, features: int, size: int = 3, stride: int = 1) -> None:
        """Adds a convolution and its BatchNorm."""
        n = len(self.layers) // 2
        padding = 1 if size == 3 and stride == 1 else 0
        self.layers[f"Conv_{n}"] = nn.Conv2d(channels, features, size, stride, padding, bias=False)
        self.layers[f"BatchNorm_{n}"] = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images in [0, 1] [batch, channels, height, width] to logits [batch, classes]."""
        layers = iter(list(self.layers.values())[:-1])

        def convolved(x: Tensor) -> Tensor:
            conv, norm = next(layers), next(layers)
            if conv.kernel_size == (3, 3) and conv.stride == (2, 2):  # "SAME" pads an even size after it only
                height, width = (n % 2 for n in x.shape[2:])
                x = functional.pad(x, (width, 1, height, 1))
            return norm(conv(x))

        x = functional.relu(convolved(x), inplace=True)
        for stride in self.strides:
            residual = convolved(functional.relu(convolved(x), inplace=True))
            shortcut = x if stride == 1 else convolved(x)
            x = functional.relu(shortcut + residual, inplace=True)
        return self.layers["Dense_0"](x.float().mean((2, 3)))


def step(
    labels: Tensor, config: Any, nets: dict[str, nn.Module], batch: Callable, autocast: Callable
) -> Callable[..., dict[str, Tensor]]:
    """Makes a training step on images with these labels, int64 [examples]."""
    net = nets["network"]
    adam = torch.optim.AdamW(
        net.parameters(), config.learning_rate, (0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay, fused=True
    )

    def step(indices, noise=None):
        x, label = batch(indices) / 255, labels[indices]
        with autocast():
            logits = net(x).float()
        loss = functional.cross_entropy(logits, label)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return {"loss": loss.detach(), "accuracy": (logits.detach().argmax(-1) == label).float().mean()}

    return step
