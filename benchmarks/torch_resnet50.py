"""ResNet-50 with K heads in plain PyTorch, stepped with TorchJD or without."""

import numpy as np
import torch
from torch import nn
from torchjd import aggregation
from torchjd import autogram
from torchjd import autojac


def _convolution(channels, filters, size, stride=1):
    return [
        nn.Conv2d(channels, filters, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(filters),
    ]


class _Block(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        wide = 4 * filters
        self.inner = nn.Sequential(
            *_convolution(channels, filters, 1, stride),
            nn.ReLU(),
            *_convolution(filters, filters, 3),
            nn.ReLU(),
            *_convolution(filters, wide, 1),
        )
        self.outer = nn.Sequential(
            *(
                []
                if channels == wide and stride == 1
                else _convolution(channels, wide, 1, stride)
            )
        )

    def forward(self, x):
        return torch.relu(self.inner(x) + self.outer(x))


def resnet50():
    blocks = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for filters, depth, stride in (
        (64, 3, 1),
        (128, 4, 2),
        (256, 6, 2),
        (512, 3, 2),
    ):
        for place in range(depth):
            step = stride if place == 0 else 1
            blocks.append(_Block(channels, filters, step))
            channels = 4 * filters
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Trainer:
    """Trains on one random batch.

    Args:
        way: `None` for the plain step, `"backward"` or `"autogram"`.
    """

    def __init__(self, way, options):
        torch.manual_seed(0)
        trunk = resnet50()
        heads = nn.ModuleList(
            nn.Linear(2048, 10) for _ in range(options.objectives)
        )
        self._model = nn.ModuleList([trunk, heads]).to(options.device)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01)
        self._way = way
        if way == "autogram":
            self._engine = autogram.Engine(trunk, *heads, batch_dim=None)
            self._weighting = aggregation.UPGradWeighting()
        rng = np.random.default_rng(0)
        size = (options.batch, 3, options.size, options.size)
        self._x = torch.tensor(rng.normal(size=size)).float().to(options.device)
        y = rng.integers(10, size=(options.objectives, options.batch))
        self._y = torch.tensor(y).to(options.device)

    def step(self):
        trunk, heads = self._model
        self._optimizer.zero_grad()
        features = trunk(self._x)
        losses = [
            nn.functional.cross_entropy(head(features), y)
            for head, y in zip(heads, self._y, strict=True)
        ]
        if self._way is None:
            sum(losses).backward()
        elif self._way == "autogram":
            stacked = torch.stack(losses)
            gramian = self._engine.compute_gramian(stacked)
            stacked.backward(self._weighting(gramian))
        else:
            autojac.backward(losses)
            autojac.jac_to_grad(self._model.parameters(), aggregation.UPGrad())
        self._optimizer.step()
        losses[0].item()
