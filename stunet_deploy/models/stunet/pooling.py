"""Pooling to a coarser graph and back, by gather indices that are constants of the graph."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stunet_deploy.graph.hierarchy import Transition
from stunet_deploy.models.stunet.graph_gru import GCGRUCell
from stunet_deploy.models.stunet.propagation import BlockMatrix


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
        self.identity = transition.pool.shape[1] == 1
        self.register_buffer("index", torch.from_numpy(transition.pool.flatten()), persistent=False)
        self.register_buffer("weight", torch.from_numpy(transition.mean_weights())[..., None], persistent=False)

    def forward(self, x: Float[Tensor, "*batch node channel"]) -> Float[Tensor, "*batch coarse channel"]:
        """Pool the node axis."""
        if self.identity:
            return x
        members = torch.unflatten(x.index_select(-2, self.index), -2, self.weight.shape[:2])
        return members.amax(-2) if self.how == "max" else (members * self.weight).sum(-2)


class SpatialUnpool(nn.Module):
    """Bring a coarse graph's channels back to the nodes (ST-Unpool), for a layer that follows."""

    def forward(self, x: Float[Tensor, "*batch coarse channel"]) -> Float[Tensor, "*batch node channel"]:
        """Unpool the node axis."""
        raise NotImplementedError

    def project(
        self,
        cell: GCGRUCell,
        coarse: Float[Tensor, "*batch coarse channel"],
        skip: Float[Tensor, "*batch node skipped"] | None,
    ) -> Float[Tensor, "*batch node gates"]:
        """Return the cell's projection of the unpooled channels, with ``skip`` beside them."""
        unpooled = self(coarse)
        return cell.project(unpooled if skip is None else torch.cat([unpooled, skip], dim=-1))


class CopyUnpool(SpatialUnpool):
    """Give every node a copy of its super node's channels (``copy``).

    Args:
        transition: from the fine level to the coarse one.
        unpooling: of the fine level's basis, where that is in blocks; see
            :func:`stunet_deploy.models.stunet.propagation.unpooled_sum`.
    """

    index: Tensor

    def __init__(self, transition: Transition, unpooling: BlockMatrix | None = None) -> None:
        super().__init__()
        self.unpooling = unpooling
        self.identity = transition.pool.shape[1] == 1
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
        """Return the cell's projection of the unpooled channels and ``skip``; copies are projected once."""
        if self.identity:
            return super().project(cell, coarse, skip)
        return cell.project_unpooled(coarse, skip, self.index, self.unpooling)


class DeconvolutionUnpool(SpatialUnpool):
    """Give the member of rank j in a super node Θj h (``ordered_deconv``), or Θj [h, s] (``weighted_deconv``).

    Ranks and structural vectors s are constants of the graph, see :class:`stunet_deploy.graph.hierarchy.Transition`.

    Args:
        transition: from the fine level to the coarse one.
        channels: of input and output.
        weighted: whether Θ sees the structural vector.
    """

    index: Tensor
    ranks: Tensor
    structure: Tensor

    def __init__(self, transition: Transition, channels: int, weighted: bool) -> None:
        super().__init__()
        ranks, members = torch.from_numpy(transition.ranks), transition.pool.shape[1]
        structure = torch.from_numpy(transition.structure)
        self.weight = nn.Parameter(torch.empty(members, channels, channels))
        self.structure_weight = nn.Parameter(torch.zeros(members, structure.shape[1], channels)) if weighted else None
        for matrix in self.weight:
            nn.init.xavier_uniform_(matrix)
        self.register_buffer("index", torch.from_numpy(transition.unpool) * members + ranks, persistent=False)
        self.register_buffer("ranks", ranks, persistent=False)
        self.register_buffer("structure", structure, persistent=False)

    def forward(self, x: Float[Tensor, "*batch coarse channel"]) -> Float[Tensor, "*batch node channel"]:
        """Unpool the node axis."""
        members, channels, _ = self.weight.shape
        # One product gives the output of every rank, more than small super nodes have; members pick their own.
        by_rank = x @ self.weight.movedim(0, 1).flatten(1)
        unpooled = torch.unflatten(by_rank, -1, (members, channels)).flatten(-3, -2).index_select(-2, self.index)
        if self.structure_weight is None:
            return unpooled
        return unpooled + (self.structure[:, None] @ self.structure_weight[self.ranks]).squeeze(1)


def spatial_unpool(
    how: str, transition: Transition, channels: int, unpooling: BlockMatrix | None = None
) -> SpatialUnpool:
    """Return the unpooling of a config's name; for ``unpooling`` see :class:`CopyUnpool`."""
    if how == "copy":
        return CopyUnpool(transition, unpooling)
    return DeconvolutionUnpool(transition, channels, weighted=how == "weighted_deconv")
