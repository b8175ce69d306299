"""The decoders: from the encoder's output or states to a forecast in normalised units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stunet_deploy.config import STUNetConfig
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.forecaster import Teacher
from stunet_deploy.models.stunet.dilated import DilatedGCGRU
from stunet_deploy.models.stunet.graph_gru import GraphConvolution
from stunet_deploy.models.stunet.propagation import level_basis
from stunet_deploy.models.stunet.unet import RecurrentUNet

#: Slope at zero of what compresses the channels of a perceptron; it grows like a logarithm from a quarter on.
STEEPNESS = 4.0

#: The last states of every encoder layer, oldest first: as many as its dilation, the last just written.
Recent = Mapping[str, Sequence[Tensor]]


class Known(NamedTuple):
    """What a perceptron receives beside the encoder's output.

    Attributes:
        own: channels of a sensor.
        seen: which intervals of the window were observed, 1 or 0; None where that is no channel.
        common: channels that are the same at every sensor; None for none.
        looked: channels of a sensor from a memory; None for none.
    """

    own: Float[Tensor, "*batch node own"]
    seen: Float[Tensor, "*batch node seen"] | None
    common: Float[Tensor, "*batch 1 common"] | None
    looked: Float[Tensor, "*batch node looked"] | None


@dataclass(frozen=True)
class PerceptronInputs:
    """Numbers of channels that a perceptron receives; 0 for none of a kind.

    Attributes:
        own: of a sensor.
        seen: of its window, 1 or 0.
        encoded: of the encoder.
        static: of a sensor, the same at every interval.
        common: the same at every sensor.
        looked: of a sensor, from a memory.
        compress: those of a sensor that change are fed a second time, compressed: of counts, the large ones would drown
            the rest.
    """

    own: int
    seen: int = 0
    encoded: int = 0
    static: int = 0
    common: int = 0
    looked: int = 0
    compress: bool = False


class DirectDecoder(nn.Module):
    """A final graph convolution that emits all horizons at once, and beside it a perceptron of every sensor alone.

    Args:
        config, hierarchy: of the model.
        targets: number of forecast features.
        inputs: what the perceptron receives; None for no perceptron.

    Attributes:
        head: the graph convolution; None for a network without encoder.
        perceptron: the first; None where there is none.
        others: further ones, whose mean with the first counts.
    """

    def __init__(
        self,
        config: STUNetConfig,
        hierarchy: GraphHierarchy,
        targets: int,
        inputs: PerceptronInputs | None = None,
    ) -> None:
        super().__init__()
        self.horizon, self.targets = config.horizon, targets
        self.head: GraphConvolution | None = None
        if config.hidden:
            self.head = GraphConvolution(level_basis(hierarchy.levels[0]), config.hidden, config.horizon * targets)
            nn.init.zeros_(self.head.weight)  # an untrained model forecasts its base
        self.perceptron: Perceptron | None = None
        self.others = nn.ModuleList()
        if inputs is not None:
            self.perceptron, *others = (
                Perceptron(inputs, config.head, config.horizon * targets) for _ in range(config.members)
            )
            self.others.extend(others)

    @property
    def members(self) -> list[Perceptron]:
        """All perceptrons."""
        return [] if self.perceptron is None else [self.perceptron, *cast("list[Perceptron]", list(self.others))]

    def forward(
        self,
        encoded: Float[Tensor, "*batch node hidden"] | None,
        base: Float[Tensor, "*batch ahead node target"] | None,
        known: Known | None = None,
        static: Float[Tensor, "node static"] | None = None,
        scale: Float[Tensor, "node target"] | None = None,
    ) -> Float[Tensor, "*batch horizon node target"]:
        """Return the forecast: the output of convolution and perceptron, added to the base where there is one.

        Args:
            encoded: output of the encoder, if there is one.
            base: forecasts to start from, for every horizon or one for all.
            known: for the perceptron; None where there is none.
            static: channels of a sensor that are the same at every interval, for the perceptron.
            scale: unit of the output, of every sensor.
        """
        parts = [] if self.head is None else [self.head(encoded)]
        if known is not None:
            members = self.members
            forecasts = [perceptron(known, encoded, static) for perceptron in members]
            parts.append(sum(forecasts[1:], forecasts[0]) / len(members))
        emitted = sum(parts[1:], parts[0])
        head = torch.unflatten(emitted, -1, (self.horizon, self.targets)).movedim(-2, -3)
        head = head if scale is None else head * scale
        return head if base is None else head + base


class Perceptron(nn.Module):
    """Two hidden layers from what is known of a sensor alone, and from the encoder's output where there is one.

    It begins without effect: the last layer is zero, and so is what other inputs add to those of the sensor; a memory
    that holds nothing in training has no effect afterwards either.

    Args:
        inputs: the channels that it receives.
        width: units of a hidden layer.
        outputs: channels that are emitted.
    """

    def __init__(self, inputs: PerceptronInputs, width: int, outputs: int) -> None:
        super().__init__()
        self.compress = inputs.compress
        times = 2 if inputs.compress else 1
        self.own_weight = nn.Parameter(torch.empty(times * inputs.own + inputs.seen, width))
        self.own_bias = nn.Parameter(torch.zeros(width))
        self.encoded_weight = nn.Parameter(torch.zeros(inputs.encoded, width)) if inputs.encoded else None
        self.static_weight = nn.Parameter(torch.zeros(inputs.static, width)) if inputs.static else None
        self.common_weight = nn.Parameter(torch.zeros(inputs.common, width)) if inputs.common else None
        self.looked_weight = nn.Parameter(torch.zeros(times * inputs.looked, width)) if inputs.looked else None
        self.hidden_weight = nn.Parameter(torch.empty(width, width))
        self.hidden_bias = nn.Parameter(torch.zeros(width))
        self.out_weight = nn.Parameter(torch.zeros(width, outputs))
        for weight in (self.own_weight, self.hidden_weight):
            nn.init.xavier_uniform_(weight)
        self.dropout = nn.Dropout(0.0)  # the training sets its rate

    def share(self, other: Perceptron) -> None:
        """Take over the parameters of another one, except what is for its encoder."""
        for name in self._parameters.keys() - {"encoded_weight"}:
            setattr(self, name, getattr(other, name))

    def forward(
        self,
        known: Known,
        encoded: Float[Tensor, "*batch node hidden"] | None,
        static: Float[Tensor, "node static"] | None = None,
    ) -> Float[Tensor, "*batch node output"]:
        """Return the output of every node."""
        bias: Tensor = self.own_bias  # of every sensor a constant one: in a step graph it costs nothing
        if self.static_weight is not None and static is not None:
            bias = bias + static @ self.static_weight
        if self.common_weight is not None and known.common is not None:
            bias = bias + known.common @ self.common_weight
        own = self._doubled(known.own) + ([] if known.seen is None else [known.seen])
        hidden = torch.cat(own, dim=-1) @ self.own_weight + bias
        if self.looked_weight is not None and known.looked is not None:
            hidden = hidden + torch.cat(self._doubled(known.looked), dim=-1) @ self.looked_weight
        if self.encoded_weight is not None and encoded is not None:
            hidden = hidden + encoded @ self.encoded_weight
        hidden = self._activated(hidden) @ self.hidden_weight + self.hidden_bias
        return self._activated(hidden) @ self.out_weight

    def _activated(self, x: Tensor) -> Tensor:
        active = torch.relu(x)
        dropped: Tensor = self.dropout(active) if self.own_weight.requires_grad else active  # it learns no more
        return dropped

    def _doubled(self, x: Tensor) -> list[Tensor]:
        # Not asinh, which is much the same: inference engines have it without vector instructions.
        return [x, torch.sign(x) * torch.log(1 + STEEPNESS * x.abs())] if self.compress else [x]


class RecurrentDecoder(nn.Module):
    """A second U that starts from the encoder's states and takes a step per horizon (ST-UNet, Section 3.5).

    Its layers have the encoder's shapes and dilations, and weights of their own. Step j of a layer with dilation s
    reads the encoder's state of j − s intervals from now while j ≤ s, then its own of s steps before. Its input is
    zeros, then the forecast of the step before, each with the ``extra`` channels::

        s = 2     h(t−1) ──────────▶ step 1 ────────▶ step 3 ──▶ …
                           h(t) ────────────▶ step 2 ────────▶ step 4 ──▶ …

    Args:
        config, hierarchy: of the model.
        targets: number of forecast features.
        extra: further input channels per node, the same kind at every step.
    """

    def __init__(self, config: STUNetConfig, hierarchy: GraphHierarchy, targets: int, extra: int) -> None:
        super().__init__()
        self.horizon = config.horizon
        self.unet = RecurrentUNet(config, hierarchy, targets + extra)
        self.head = GraphConvolution(level_basis(hierarchy.levels[0]), config.hidden, targets)

    def forward(
        self,
        recent: Recent,
        go: Float[Tensor, "*batch node target"],
        base: Float[Tensor, "*batch ahead node target"] | None,
        extra: Float[Tensor, "*batch horizon node extra"] | None,
        teacher: Teacher | None,
    ) -> Float[Tensor, "*batch horizon node target"]:
        """Return the forecast of every horizon.

        Args:
            recent: states of the encoder.
            go: input of the first step: zeros.
            base: added to the output of the steps, for every horizon or one for all.
            extra: further input of every step.
            teacher: labels to be fed in training; without them every step is fed the forecast before.
        """
        lines = {name: list(states) for name, states in recent.items()}

        def step(name: str, layer: DilatedGCGRU, projected: Tensor) -> Tensor:
            output, hidden = layer.step(projected, lines[name].pop(0))
            lines[name].append(hidden)
            return output

        forecasts = list[Tensor]()
        fed = go
        for ahead in range(self.horizon):
            x = fed if extra is None else torch.cat([fed, extra[..., ahead, :, :]], dim=-1)
            forecast = self.head(self.unet(x, step))
            if base is not None:
                forecast = forecast + base[..., min(ahead, base.shape[-3] - 1), :, :]
            forecasts.append(forecast)
            fed = forecast
            if teacher is not None and ahead + 1 < self.horizon:
                fed = teacher.after(ahead, forecast)
        return torch.stack(forecasts, dim=-3)
