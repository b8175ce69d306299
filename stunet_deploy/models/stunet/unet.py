"""The U of recurrent layers that ST-UNet's encoder and its recurrent decoder have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from stunet_deploy.config import STUNetConfig
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.stunet.dilated import DilatedGCGRU
from stunet_deploy.models.stunet.pooling import SpatialPool, SpatialUnpool, spatial_unpool
from stunet_deploy.models.stunet.propagation import level_basis, unpooling_matrix

#: Runs one recurrent layer on its projected input, for an interval or for a sequence, and keeps its state:
#: (name of the state, layer, projected input) -> output.
RunLayer = Callable[[str, DilatedGCGRU, Tensor], Tensor]


class RecurrentUNet(nn.Module):
    """Recurrent layers in a U over space and time (ST-UNet, Section 3).

    Contracting side: a layer on the sensor graph, then per scale a pool and a dilated layer on the coarser graph.
    Expanding side: unpool, concatenate the same level's output of the contracting side, an undilated layer::

        level 0    contracting.0 ───────────────skip──────────────▶ expanding.0 ──▶
                        └─pool─▶                            ─unpool──┘
        level 1             contracting.1 (dilation s) ────┘

    Args:
        config: the architecture.
        hierarchy: the prepared graphs.
        in_channels: channels per node of the input.
        output_read: whether the output is used; if not, its normalisation would be weights without effect.
    """

    def __init__(
        self, config: STUNetConfig, hierarchy: GraphHierarchy, in_channels: int, output_read: bool = True
    ) -> None:
        super().__init__()
        width, dilations = config.hidden, [1, *(dilation for _, dilation in config.scales)]
        basis_of = cache(level_basis)  # a level that is repeated has one basis
        bases = [basis_of(level) for level in hierarchy.levels]
        merged = 2 * width if config.skip else width
        self.skip = config.skip
        self.contracting = nn.ModuleList(
            DilatedGCGRU(basis, width if level else in_channels, width, dilation, config.layer_norm)
            for level, (basis, dilation) in enumerate(zip(bases, dilations, strict=True))
        )
        self.expanding = nn.ModuleList(
            DilatedGCGRU(basis, merged, width, 1, config.layer_norm and (level > 0 or output_read))
            for level, basis in enumerate(bases[:-1])
        )
        steps = [
            transition.between(fine.slots, coarse.slots)
            for transition, (fine, coarse) in zip(hierarchy.transitions, pairwise(hierarchy.levels), strict=True)
        ]
        self.pools = nn.ModuleList(SpatialPool(step, config.pooling) for step in steps)
        self.unpools = nn.ModuleList(
            spatial_unpool(config.unpooling, step, width, unpooling_matrix(level, step))
            for level, step in zip(hierarchy.levels, steps, strict=False)
        )
        self.dropout = nn.Dropout(0.0)

    @property
    def layers(self) -> dict[str, DilatedGCGRU]:
        """The recurrent layers by the names of their states, in the order of the contract."""
        return {
            f"{side}.{level}.hidden": cast(DilatedGCGRU, module)
            for side, modules in (("contracting", self.contracting), ("expanding", self.expanding))
            for level, module in enumerate(modules)
        }

    def forward(self, x: Tensor, run_layer: RunLayer) -> Tensor:
        """Return the output of the last expanding layer, [*batch, node, hidden]; ``x`` is [*batch, node, channel]."""
        layers, outputs = self.layers, list[Tensor]()

        def run(name: str, projected: Tensor) -> Tensor:
            output: Tensor = self.dropout(run_layer(name, layers[name], projected))
            return output

        for level in range(len(self.contracting)):
            name = f"contracting.{level}.hidden"
            x = self.pools[level - 1](x) if level else x
            x = run(name, layers[name].cell.project(x))
            outputs.append(x)
        for level in reversed(range(len(self.expanding))):
            name = f"expanding.{level}.hidden"
            skip = outputs[level] if self.skip else None
            x = run(name, cast(SpatialUnpool, self.unpools[level]).project(layers[name].cell, x, skip))
        return x
