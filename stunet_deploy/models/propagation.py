"""Chebyshev polynomials of a graph's Laplacian, applied to the channels of its nodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def propagate(
    basis: Float[Tensor, "order node node"], x: Float[Tensor, "*batch node channel"]
) -> Float[Tensor, "*batch node propagated"]:
    """Return [X, T1 X, …, T(K−1) X] side by side on the channel axis."""
    return torch.cat([x, *(polynomial @ x for polynomial in basis)], dim=-1)


def propagated_sum(
    basis: Float[Tensor, "order node node"], terms: Sequence[Float[Tensor, "*batch node channel"]]
) -> Float[Tensor, "*batch node channel"]:
    """Return Σk Tk Yk of the K ``terms`` Y0 … Y(K−1)."""
    y = terms[0]
    for polynomial, term in zip(basis, terms[1:], strict=True):
        y = y + polynomial @ term
    return y


def unpooled_sum(
    basis: Float[Tensor, "order node node"],
    terms: Sequence[Float[Tensor, "*batch coarse channel"]],
    cluster: Int64[Tensor, " node"],
) -> Float[Tensor, "*batch node channel"]:
    """Return Σk Tk S Yk, for the terms of a coarse graph that S copies to the nodes; products are (Tk S) Yk."""
    near, *far = terms
    y = near.index_select(-2, cluster)
    if far:
        shape = (*basis.shape[:-1], near.shape[-2])
        summed = basis.new_zeros(shape).index_add(-1, cluster, basis)  # Tk S
        y = y + summed.movedim(0, -2).flatten(-2) @ torch.cat(far, dim=-2)
    return y
