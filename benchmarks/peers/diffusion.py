"""Two models that one would deploy instead, at their published sizes: DCRNN and Graph WaveNet.

Written from the papers, on dense transition matrices. Their numbers of parameters on METR-LA are those that the
authors' programs have.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn


def random_walks(adjacency: ArrayLike) -> Tensor:
    """Return the transition matrices [2, node, node] of random walks along the edges and against them."""
    weights = np.asarray(adjacency, np.float32)
    walks = []
    for matrix in (weights, weights.T):
        degree = matrix.sum(axis=1, keepdims=True)
        walks.append(np.divide(matrix, degree, out=np.zeros_like(matrix), where=degree > 0))
    return torch.from_numpy(np.stack(walks))


class DiffusionConvolution(nn.Module):
    """Diffusion along both random walks, K steps each (Li et al. 2018, Eq. 2-3)."""

    def __init__(self, inputs: int, outputs: int, order: int) -> None:
        super().__init__()
        self.order = order
        self.linear = nn.Linear(inputs * (1 + 2 * order), outputs)

    def forward(self, walks: Tensor, x: Tensor) -> Tensor:
        """Return [batch, node, output] from [batch, node, input]."""
        terms = [x]
        for walk in walks:
            before, last = x, walk @ x
            terms.append(last)
            for _ in range(self.order - 1):
                before, last = last, 2 * (walk @ last) - before
                terms.append(last)
        result: Tensor = self.linear(torch.cat(terms, dim=-1))
        return result


class DiffusionGRU(nn.Module):
    """A GRU cell whose products are diffusion convolutions (Li et al. 2018, section 2.3)."""

    def __init__(self, inputs: int, units: int, order: int) -> None:
        super().__init__()
        self.gates = DiffusionConvolution(inputs + units, 2 * units, order)
        self.candidate = DiffusionConvolution(inputs + units, units, order)

    def forward(self, walks: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
        """Return the next hidden state [batch, node, unit]."""
        reset, update = torch.sigmoid(self.gates(walks, torch.cat([x, hidden], dim=-1))).chunk(2, dim=-1)
        candidate = torch.tanh(self.candidate(walks, torch.cat([x, reset * hidden], dim=-1)))
        return update * hidden + (1 - update) * candidate


class DCRNN(nn.Module):
    """Diffusion convolutional recurrent network: encoder and decoder of two layers with 64 units, K = 2.

    Li, Yu, Shahabi, Liu: Diffusion Convolutional Recurrent Neural Network (ICLR 2018), Fig. 2. The decoder is fed its
    own forecasts in training too: there is no scheduled sampling.
    """

    def __init__(
        self, walks: Tensor, *, inputs: int = 2, units: int = 64, layers: int = 2, order: int = 2, horizon: int = 12
    ) -> None:
        super().__init__()
        self.register_buffer("walks", walks)
        self.units, self.horizon = units, horizon
        self.encoder = nn.ModuleList(DiffusionGRU(units if layer else inputs, units, order) for layer in range(layers))
        self.decoder = nn.ModuleList(DiffusionGRU(units if layer else 1, units, order) for layer in range(layers))
        self.head = nn.Linear(units, 1)

    def forward(self, window: Tensor) -> Tensor:
        """Return [batch, horizon, node, 1] from a window [batch, time, node, input]."""
        batch, _, nodes, _ = window.shape
        states = [window.new_zeros(batch, nodes, self.units) for _ in self.encoder]
        for x in window.unbind(1):
            self._step(self.encoder, x, states)
        y, forecast = window.new_zeros(batch, nodes, 1), []
        for _ in range(self.horizon):
            y = self.head(self._step(self.decoder, y, states))
            forecast.append(y)
        return torch.stack(forecast, dim=1)

    def _step(self, layers: nn.ModuleList, x: Tensor, states: list[Tensor]) -> Tensor:
        for number, layer in enumerate(layers):
            x = states[number] = layer(self.walks, x, states[number])
        return x


class GraphWaveNet(nn.Module):
    """Dilated gated convolutions over time, diffusion and a learnt adjacency over nodes: eight layers.

    Wu, Pan, Long, Jiang, Zhang: Graph WaveNet for Deep Spatial-Temporal Graph Modeling (IJCAI 2019): 32 channels, 256
    of the skip connections, 512 at the end, dilations 1, 2 four times, embeddings of 10, diffusion of order 2, dropout
    0.3; Eq. 5-8.
    """

    walks: Tensor

    def __init__(
        self,
        walks: Tensor,
        *,
        inputs: int = 2,
        channels: int = 32,
        skip: int = 256,
        end: int = 512,
        blocks: int = 4,
        embedding: int = 10,
        order: int = 2,
        dropout: float = 0.3,
        horizon: int = 12,
    ) -> None:
        super().__init__()
        nodes = walks.shape[-1]
        self.register_buffer("walks", walks)
        self.order = order
        self.dilations = (1, 2) * blocks
        self.source = nn.Parameter(torch.randn(nodes, embedding))
        self.target = nn.Parameter(torch.randn(embedding, nodes))
        self.start = nn.Conv2d(inputs, channels, 1)
        self.filters = self._over_time(channels)
        self.gates = self._over_time(channels)
        self.skips = nn.ModuleList(nn.Conv2d(channels, skip, 1) for _ in self.dilations)
        terms = 1 + order * (len(walks) + 1)
        self.graphs = nn.ModuleList(nn.Conv2d(terms * channels, channels, 1) for _ in self.dilations)
        self.dropout = nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in self.dilations)
        self.end = nn.Sequential(nn.ReLU(), nn.Conv2d(skip, end, 1), nn.ReLU(), nn.Conv2d(end, horizon, 1))

    def _over_time(self, channels: int) -> nn.ModuleList:
        return nn.ModuleList(nn.Conv2d(channels, channels, (1, 2), dilation=(1, step)) for step in self.dilations)

    @property
    def reach(self) -> int:
        """Number of intervals that a forecast looks back."""
        return 1 + sum(self.dilations)

    def forward(self, window: Tensor) -> Tensor:
        """Return [batch, horizon, node, 1] from a window [batch, time, node, input]."""
        x = window.permute(0, 3, 2, 1)
        x = self.start(nn.functional.pad(x, (max(0, self.reach - x.shape[-1]), 0)))
        learnt = torch.softmax(torch.relu(self.source @ self.target), dim=1)
        matrices = [*self.walks, learnt]
        collected: Tensor | None = None
        for filtered, gate, skip, graph, norm in zip(
            self.filters, self.gates, self.skips, self.graphs, self.norms, strict=True
        ):
            residual = x
            x = torch.tanh(filtered(x)) * torch.sigmoid(gate(x))
            out = skip(x)
            collected = out if collected is None else out + collected[..., -out.shape[-1] :]
            x = norm(self.dropout(graph(self._diffuse(matrices, x))) + residual[..., -x.shape[-1] :])
        assert collected is not None
        forecast: Tensor = self.end(collected)
        return forecast

    def _diffuse(self, matrices: list[Tensor], x: Tensor) -> Tensor:
        terms = [x]
        for matrix in matrices:
            last = x
            for _ in range(self.order):
                last = torch.einsum("bcnt,nm->bcmt", last, matrix)
                terms.append(last)
        return torch.cat(terms, dim=1)


def parameters(model: nn.Module) -> int:
    """Return the number of a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
