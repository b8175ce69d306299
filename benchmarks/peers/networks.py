"""Networks of the literature that read a window: FNN, FC-LSTM, STGCN, STID; written from their papers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stunet_deploy.errors import ConfigError


class FNN(nn.Module):
    """A perceptron of the whole network's window: two hidden layers of 256 units.

    As the baseline of Li et al.: Diffusion Convolutional Recurrent Neural Network (ICLR 2018), appendix E.

    Args:
        nodes, window, horizon: of the task.
        units: of a hidden layer.
    """

    def __init__(self, nodes: int, window: int, horizon: int, units: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(nodes * window, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(),
            nn.Linear(units, horizon * nodes),
        )  # fmt: skip
        self.nodes, self.horizon = nodes, horizon

    def forward(self, window: Tensor) -> Tensor:
        """Return [batch, horizon, node, 1] from a window [batch, time, node, 1]."""
        forecast: Tensor = self.layers(window.flatten(1))
        return forecast.view(-1, self.horizon, self.nodes, 1)


class FCLSTM(nn.Module):
    """An encoder and a decoder of LSTM layers on the vector of all sensors: two layers of 256 units each.

    Sutskever, Vinyals, Le: Sequence to Sequence Learning with Neural Networks (2014), section 2; sizes of
    DCRNN's appendix E. The decoder is fed its own forecasts in training too.
    """

    def __init__(self, nodes: int, horizon: int, units: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.encoder = nn.LSTM(nodes, units, layers, batch_first=True)
        self.decoder = nn.LSTM(nodes, units, layers, batch_first=True)
        self.head = nn.Linear(units, nodes)
        self.horizon = horizon

    def forward(self, window: Tensor) -> Tensor:
        """Return [batch, horizon, node, 1] from a window [batch, time, node, 1]."""
        _, state = self.encoder(window[..., 0])
        step, forecast = window[:, -1:, :, 0], []
        for _ in range(self.horizon):
            out, state = self.decoder(step, state)
            step = self.head(out)
            forecast.append(step)
        return torch.cat(forecast, dim=1)[..., None]


class GatedConvolution(nn.Module):
    """A convolution over time with a gated linear unit: P ⊙ σ(Q) (Yu et al. 2018, Eq. 7), and a residual."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.both = nn.Conv2d(inputs, 2 * outputs, (kernel, 1))
        self.residual = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, output, time - kernel + 1, node] from [batch, input, time, node]."""
        linear, gate = self.both(x).chunk(2, dim=1)
        product: Tensor = (linear + self.residual(x)[:, :, self.kernel - 1 :]) * torch.sigmoid(gate)
        return product


class STConvolution(nn.Module):
    """An ST-Conv block: gated convolution, graph convolution, gated convolution, layer norm (Yu et al. 2018, Eq. 8)."""

    basis: Tensor

    def __init__(self, basis: Tensor, inputs: int, channels: tuple[int, int, int], kernel: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("basis", basis)
        first, middle, last = channels
        self.before = GatedConvolution(inputs, first, kernel)
        self.spread = nn.Linear((1 + len(basis)) * first, middle)  # Eq. 5: Σ θk Tk(L) x
        self.align = nn.Linear(first, middle)
        self.after = GatedConvolution(middle, last, kernel)
        self.norm = nn.LayerNorm((basis.shape[-1], last))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, output, time - 2 (kernel - 1), node] from [batch, input, time, node]."""
        x = self.before(x).permute(0, 2, 3, 1)
        spread = self.spread(torch.cat([x, *(matrix @ x for matrix in self.basis)], dim=-1))
        x = self.after(torch.relu(spread + self.align(x)).permute(0, 3, 1, 2))
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        dropped: Tensor = self.dropout(normed)
        return dropped


class STGCN(nn.Module):
    """Two ST-Conv blocks of 64, 16, 64 channels with kernels of 3, and an output layer.

    Yu, Yin, Zhu: Spatio-Temporal Graph Convolutional Networks (IJCAI 2018), Eq. 5-8. All horizons are forecast at once,
    instead of one that is fed back.

    Args:
        basis: Chebyshev polynomials T1 … of the scaled Laplacian, [order - 1, node, node].
        window, horizon: of the task.
        kernel: of the convolutions over time.
        dropout: after each block.

    Raises:
        ConfigError: a window that is shorter than what the convolutions take away.
    """

    def __init__(self, basis: Tensor, window: int, horizon: int, kernel: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        left = window - 4 * (kernel - 1)
        if left < 1:
            raise ConfigError(
                f"a window of {window}", f"at least {4 * (kernel - 1) + 1} for STGCN", "take a longer one"
            )
        channels = (64, 16, 64)
        self.blocks = nn.Sequential(
            STConvolution(basis, 1, channels, kernel, dropout), STConvolution(basis, 64, channels, kernel, dropout)
        )
        self.gather = GatedConvolution(64, 64, left)
        self.norm = nn.LayerNorm((basis.shape[-1], 64))
        self.head = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, horizon))

    def forward(self, window: Tensor) -> Tensor:
        """Return [batch, horizon, node, 1] from a window [batch, time, node, 1]."""
        x = self.gather(self.blocks(window.permute(0, 3, 1, 2)))[:, :, 0].transpose(1, 2)
        forecast: Tensor = self.head(self.norm(x))
        return forecast.transpose(1, 2)[..., None]


class STID(nn.Module):
    """A perceptron for each sensor's window that knows which sensor and which time it is: four embeddings of 32.

    Shao, Zhang, Wang, Wei, Xu: Spatial-Temporal Identity (CIKM 2022), Eq. 2-4; three residual layers.

    Args:
        nodes, window, horizon: of the task.
        slots: intervals of a day.
        width: of an embedding.
        layers: residual ones.
    """

    def __init__(self, nodes: int, window: int, horizon: int, slots: int, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        self.slots = slots
        self.series = nn.Linear(2 * window, width)
        self.node = nn.Parameter(nn.init.xavier_uniform_(torch.empty(nodes, width)))
        self.time = nn.Parameter(nn.init.xavier_uniform_(torch.empty(slots, width)))
        self.weekday = nn.Parameter(nn.init.xavier_uniform_(torch.empty(7, width)))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Dropout(0.15), nn.Linear(4 * width, 4 * width))
            for _ in range(layers)
        )
        self.head = nn.Linear(4 * width, horizon)

    def forward(self, window: Tensor) -> Tensor:
        """Return [batch, horizon, node, 1] from a window [batch, time, node, 3]: value, time of day, weekday."""
        batch, _, nodes, _ = window.shape
        last = window[:, -1]
        slot = (last[..., 1] * self.slots + 1e-3).long() % self.slots
        own = self.series(window[..., :2].permute(0, 2, 1, 3).flatten(2))
        sensors = self.node.expand(batch, nodes, -1)
        x = torch.cat([own, sensors, self.time[slot], self.weekday[last[..., 2].long()]], dim=-1)
        for layer in self.layers:
            x = x + layer(x)
        forecast: Tensor = self.head(x)
        return forecast.transpose(1, 2)[..., None]
