"""Chebyshev polynomials of a graph's Laplacian, applied to the channels of its nodes: dense, or in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from stunet_deploy.graph.blocks import BlockRows, Slots, cut_blocks, unpooled_polynomials
from stunet_deploy.graph.hierarchy import Level, SparseBasis, Transition

#: Numbers that are gathered at once where nothing is exported: more would not stay in a processor's cache.
_GATHERED = 2**20


class BlockMatrix(nn.Module):
    """A constant sparse matrix as dense blocks of rows, with fixed gathers of the columns that each needs.

    Args:
        groups: block rows from the first to the last, see :func:`stunet_deploy.graph.blocks.cut_blocks`.
        transposed: the block rows of the transpose, for gradients; a symmetric matrix has none.
    """

    def __init__(self, groups: Sequence[BlockRows], transposed: Sequence[BlockRows] | None = None) -> None:
        super().__init__()
        for index, (columns, blocks) in enumerate(groups):
            self.register_buffer(f"columns_{index}", torch.from_numpy(columns), persistent=False)
            self.register_buffer(f"blocks_{index}", torch.from_numpy(blocks), persistent=False)
        self.groups = len(groups)
        self.transposed = None if transposed is None else BlockMatrix(transposed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (columns, blocks) of every group."""
        for index in range(self.groups):
            yield cast(Tensor, getattr(self, f"columns_{index}")), cast(Tensor, getattr(self, f"blocks_{index}"))

    @property
    def rows(self) -> int:
        """Number of rows of the matrix."""
        return sum(blocks.shape[0] * blocks.shape[1] for _, blocks in self)

    def forward(
        self, x: Float[Tensor, "*batch column channel"], factor: float = 1.0
    ) -> Float[Tensor, "*batch row channel"]:
        """Return ``factor`` times the matrix times x."""
        if torch.compiler.is_exporting():
            return self._exported(x, factor)
        by_node = x.flatten(0, -3) if x.ndim > 2 else x[None]
        by_node = by_node.movedim(0, 1)  # [column, batch, channel]: a block meets all of a batch in one product
        product: Tensor = _Product.apply(by_node.flatten(1), self)  # type: ignore[no-untyped-call]
        product = (product if factor == 1 else factor * product).unflatten(1, by_node.shape[1:]).movedim(1, 0)
        return product.reshape(*x.shape[:-2], *product.shape[-2:])

    def product(self, rows: Float[Tensor, "column channel"]) -> Float[Tensor, "row channel"]:
        """Return the matrix times the rows, some block rows after the other."""
        if not rows.shape[1]:
            return rows.new_zeros(self.rows, 0)  # a chunk of a stream in which no forecast is wanted
        parts = []
        for columns, blocks in self:
            at_once = max(1, _GATHERED // (columns.shape[1] * rows.shape[1]))
            for some, cut in zip(columns.split(at_once), blocks.split(at_once), strict=True):
                gathered = rows.index_select(0, some.flatten()).unflatten(0, some.shape)
                parts.append(torch.bmm(cut, gathered).flatten(0, 1))
        return torch.cat(parts)

    def _exported(self, x: Tensor, factor: float) -> Tensor:
        """Return the same without a transposition, which costs a copy where a batch is one row."""
        parts = []
        for columns, blocks in self:
            gathered = x.index_select(-2, columns.flatten()).unflatten(-2, columns.shape)
            scaled = blocks if factor == 1 else factor * blocks  # a constant of the graph
            parts.append((scaled @ gathered).flatten(-3, -2))
        return parts[0] if self.groups == 1 else torch.cat(parts, dim=-2)


class _Product(torch.autograd.Function):
    """A product whose gradient is gathered like itself, where autograd would scatter it node by node."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: BlockMatrix) -> Tensor:
        ctx.matrix, ctx.columns = matrix, len(rows)
        return matrix.product(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        matrix: BlockMatrix = ctx.matrix
        transposed = matrix if matrix.transposed is None else matrix.transposed
        return transposed.product(gradient.contiguous())[: ctx.columns], None


class BlockBasis(nn.Module):
    """Polynomials T1 … T(K−1) of a large graph: never stored, their recurrence is one product with L̃ each.

    Args:
        laplacian: the scaled Laplacian L̃ in the order of the slots.
        polynomials: K − 1.
    """

    def __init__(self, laplacian: BlockMatrix, polynomials: int) -> None:
        super().__init__()
        self.laplacian = laplacian
        self.polynomials = polynomials

    @property
    def nodes(self) -> int:
        """Number of slots of the graph."""
        return self.laplacian.rows

    def terms(self, x: Float[Tensor, "*batch node channel"]) -> list[Float[Tensor, "*batch node channel"]]:
        """Return [X, T1 X, …, T(K−1) X], by Tk X = 2 L̃ T(k−1) X − T(k−2) X."""
        terms = [x]
        for k in range(1, self.polynomials + 1):
            terms.append(self.laplacian(x) if k == 1 else self.laplacian(terms[-1], 2.0) - terms[-2])
        return terms

    def weighted(self, terms: Sequence[Float[Tensor, "*batch node channel"]]) -> Float[Tensor, "*batch node channel"]:
        """Return Σk Tk Yk with K − 1 products (Clenshaw's recurrence): Bk = Yk + 2 L̃ B(k+1) − B(k+2)."""
        later: Tensor | None = None
        latest: Tensor | None = None
        for k in range(self.polynomials, -1, -1):
            current = terms[k] if latest is None else terms[k] + self.laplacian(latest, 2.0 if k else 1.0)
            later, latest = latest, current if later is None else current - later
        assert latest is not None
        return latest


class NodeOrder(nn.Module):
    """Bring readings from the sensors' order into the one that a network computes in, and forecasts back."""

    nodes: Tensor
    slots: Tensor

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self.identity = slots.size == 1
        self.register_buffer("nodes", torch.from_numpy(slots.nodes), persistent=False)
        self.register_buffer("slots", torch.from_numpy(slots.slots), persistent=False)

    def forward(self, x: Shaped[Tensor, "*batch node channel"]) -> Shaped[Tensor, "*batch slot channel"]:
        """Return the rows of the sensors in the order of the slots."""
        return x if self.identity else x.index_select(-2, self.nodes)

    def back(self, x: Shaped[Tensor, "*batch slot channel"]) -> Shaped[Tensor, "*batch node channel"]:
        """Return the rows of the slots in the order of the sensors."""
        return x if self.identity else x.index_select(-2, self.slots)


#: The polynomials T1 … T(K−1) of a graph: dense, [order, node, node], or in blocks.
Basis = Tensor | BlockBasis


def level_basis(level: Level) -> Basis:
    """Return the polynomials of a level in the form that it was prepared for."""
    if not isinstance(level.basis, SparseBasis):
        return torch.from_numpy(level.basis)
    groups = cut_blocks(level.laplacian().tocoo(), level.slots.size)
    return BlockBasis(BlockMatrix(groups), level.polynomials)


def unpooling_matrix(level: Level, transition: Transition) -> BlockMatrix | None:
    """Return [T1 S, …, T(K−1) S] of a fine level in blocks, see :func:`unpooled_sum`; otherwise nothing.

    Args:
        level: the fine one.
        transition: to the coarse one, in the order of the slots.
    """
    if not isinstance(level.basis, SparseBasis) or not level.polynomials:
        return None
    matrix = unpooled_polynomials(level.laplacian(), level.polynomials, transition.unpool, len(transition.pool))
    size = level.slots.size
    return BlockMatrix(cut_blocks(matrix, size), cut_blocks(matrix.transpose(), size))


def keep_basis(layer: nn.Module, basis: Basis) -> None:
    """Keep the polynomials of a layer's graph as its constant ``basis``."""
    if isinstance(basis, Tensor):
        layer.register_buffer("basis", basis, persistent=False)
    else:
        layer.basis = basis


def count_nodes(basis: Basis) -> int:
    """Return the length of the node axis."""
    return basis.nodes if isinstance(basis, BlockBasis) else basis.shape[-1]


def count_polynomials(basis: Basis) -> int:
    """Return K, the number of polynomials with T0."""
    return 1 + (basis.polynomials if isinstance(basis, BlockBasis) else len(basis))


def propagate(basis: Basis, x: Float[Tensor, "*batch node channel"]) -> Float[Tensor, "*batch node propagated"]:
    """Return [X, T1 X, …, T(K−1) X] side by side on the channel axis."""
    if isinstance(basis, BlockBasis):
        return torch.cat(basis.terms(x), dim=-1)
    return torch.cat([x, *(polynomial @ x for polynomial in basis)], dim=-1)


def propagated_sum(
    basis: Basis, terms: Sequence[Float[Tensor, "*batch node channel"]]
) -> Float[Tensor, "*batch node channel"]:
    """Return Σk Tk Yk of the K ``terms`` Y0 … Y(K−1)."""
    if isinstance(basis, BlockBasis):
        return basis.weighted(terms)
    y = terms[0]
    for polynomial, term in zip(basis, terms[1:], strict=True):
        y = y + polynomial @ term
    return y


def unpooled_sum(
    basis: Basis,
    terms: Sequence[Float[Tensor, "*batch coarse channel"]],
    cluster: Int64[Tensor, " node"],
    unpooling: BlockMatrix | None = None,
) -> Float[Tensor, "*batch node channel"]:
    """Return Σk Tk S Yk, for the terms of a coarse graph that S copies to the nodes; products are (Tk S) Yk.

    Args:
        basis: of the fine graph.
        terms: Y0 … Y(K−1).
        cluster: the coarse node of every node.
        unpooling: [T1 S, …, T(K−1) S] side by side, for a basis in blocks.
    """
    near, *far = terms
    y = near.index_select(-2, cluster)
    if not far:
        return y
    beside = torch.cat(far, dim=-2)
    if unpooling is not None:
        far_sum: Tensor = unpooling(beside)
        return y + far_sum
    assert isinstance(basis, Tensor)
    shape = (*basis.shape[:-1], near.shape[-2])
    summed = basis.new_zeros(shape).index_add(-1, cluster, basis)  # Tk S
    return y + summed.movedim(0, -2).flatten(-2) @ beside
