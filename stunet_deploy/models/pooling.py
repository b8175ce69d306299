"""Pooling to a coarser graph and back, by gather indices that are constants of the graph."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stunet_deploy.graph import Transition
from stunet_deploy.models.layers import GCGRUCell


class SpatialPool(nn.Module):
    """Pool the members of each super node (ST-Pool): gather to [coarse, member, channel], then max or mean.

    The gather index is padded by repeating a real member, so that max needs no mask; states are in (−1, 1) and zero
    padding would win over negative ones. Mean pooling weighs the padding 0.
    """

    index: Tensor
    weight: Tensor

    def __init__(self, transition: Transition, how: str) -> None:
        super().__init__()
        self.how = how
        self.identity = transition.pool.shape[0] == transition.unpool.shape[0]
        self.register_buffer("index", torch.from_numpy(transition.pool.flatten()), persistent=False)
        self.register_buffer("weight", torch.from_numpy(transition.mean_weights())[..., None], persistent=False)

    def forward(self, x: Float[Tensor, "*batch node channel"]) -> Float[Tensor, "*batch coarse channel"]:
        """Pool the node axis."""
        if self.identity:
            return x
        members = torch.unflatten(x.index_select(-2, self.index), -2, self.weight.shape[:2])
        return members.amax(-2) if self.how == "max" else (members * self.weight).sum(-2)


class SpatialUnpool(nn.Module):
    """Give every node a copy of its super node's channels (ST-Unpool, ``copy``)."""

    index: Tensor

    def __init__(self, transition: Transition) -> None:
        super().__init__()
        self.identity = transition.pool.shape[0] == transition.unpool.shape[0]
        self.register_buffer("index", torch.from_numpy(transition.unpool), persistent=False)

    def forward(self, x: Float[Tensor, "*batch coarse channel"]) -> Float[Tensor, "*batch node channel"]:
        """Unpool the node axis."""
        return x if self.identity else x.index_select(-2, self.index)

    def project(
        self,
        cell: GCGRUCell,
        coarse: Float[Tensor, "*batch coarse channel"],
        skip: Float[Tensor, "*batch node skipped"] | None,
    ) -> Float[Tensor, "*batch node gates"]:
        """Return the cell's projection of what is unpooled, with ``skip`` beside it."""
        if not self.identity:
            return cell.project_unpooled(coarse, skip, self.index)
        return cell.project(coarse if skip is None else torch.cat([coarse, skip], dim=-1))
