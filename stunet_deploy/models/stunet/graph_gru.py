"""Graph convolution and graph-convolutional GRU cell of ST-UNet; Structural-RNN's cells are in ``srnn/cells.py``."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stunet_deploy.models.stunet.propagation import (
    Basis,
    BlockMatrix,
    count_nodes,
    count_polynomials,
    keep_basis,
    propagate,
    propagated_sum,
    unpooled_sum,
)


class GraphConvolution(nn.Module):
    """Chebyshev graph convolution y = Σk Tk X Θk + b (ST-UNet, Eq. 2).

    Each product is taken in the cheaper order: (Tk X) Θk, or Tk (X Θk) when the output has fewer channels.

    Args:
        basis: polynomials T1 … T(K−1), dense [order, node, node] or in blocks; T0 is the identity and never
            multiplied.
        in_channels, out_channels: channels per node.
    """

    basis: Basis

    def __init__(self, basis: Basis, in_channels: int, out_channels: int) -> None:
        super().__init__()
        keep_basis(self, basis)
        self.weight = nn.Parameter(torch.empty(count_polynomials(basis), in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.weight.view(-1, out_channels))

    def forward(self, x: Float[Tensor, "*batch node in"]) -> Float[Tensor, "*batch node out"]:
        """Convolve the last two axes."""
        _, in_channels, out_channels = self.weight.shape
        if out_channels >= in_channels:
            return propagate(self.basis, x) @ self.weight.flatten(0, 1) + self.bias
        near, *far = (x @ weight for weight in self.weight)
        return propagated_sum(self.basis, [near + self.bias, *far])


class GCGRUCell(nn.Module):
    """Graph-convolutional GRU cell (ST-UNet, Eq. 7) in two halves: a projection of the input, and the recurrence.

    z, r = σ(W ∗ X + U ∗ h), h' = tanh(Wh ∗ X + Uh ∗ (r ⊙ h)), h ← z ⊙ h + (1 − z) ⊙ h'. The reset gate is applied
    *before* the convolution and z keeps the old state, so torch.nn.GRU is no oracle for this cell. The three
    convolutions of X share their propagation, as do those of h; the biases of W and U are one.
    """

    basis: Basis

    def __init__(self, basis: Basis, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.nodes = count_nodes(basis)
        keep_basis(self, basis)
        polynomials = count_polynomials(basis)
        self.input_weight = nn.Parameter(torch.empty(polynomials * in_channels, 3 * hidden))
        self.gate_weight = nn.Parameter(torch.empty(polynomials * hidden, 2 * hidden))
        self.candidate_weight = nn.Parameter(torch.empty(polynomials * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(3 * hidden))
        for weight in (self.input_weight, self.gate_weight, self.candidate_weight):
            for gate in torch.split(weight, hidden, dim=1):
                nn.init.xavier_uniform_(gate)
        with torch.no_grad():
            self.bias[: 2 * hidden] = 1.0  # gates start open, as in DCRNN

    def project(self, x: Float[Tensor, "*batch node channel"]) -> Float[Tensor, "*batch node gates"]:
        """Return W ∗ X + b of the gates z, r and the candidate, side by side: the half without state."""
        return propagate(self.basis, x) @ self.input_weight + self.bias

    def project_unpooled(
        self,
        coarse: Float[Tensor, "*batch coarse unpooled"],
        skip: Float[Tensor, "*batch node skipped"] | None,
        cluster: Int64[Tensor, " node"],
        unpooling: BlockMatrix | None = None,
    ) -> Float[Tensor, "*batch node gates"]:
        """Return W ∗ [S H, X] + b for a coarse graph's H, copied to the nodes by S, with X beside it.

        Tk (S H) Θk = (Tk S) (H Θk): both products are on the coarse graph's few nodes, less than half the work.
        ``unpooling`` holds the Tk S of a basis in blocks.
        """
        polynomials, channels = count_polynomials(self.basis), coarse.shape[-1]
        weight = torch.unflatten(self.input_weight, 0, (polynomials, -1))
        near, *far = (coarse @ weight[k, :channels] for k in range(polynomials))
        projected = unpooled_sum(self.basis, [near + self.bias, *far], cluster, unpooling)
        if skip is not None:
            projected = projected + propagate(self.basis, skip) @ weight[:, channels:].flatten(0, 1)
        return projected

    def update(
        self, projected: Float[Tensor, "*batch node gates"], hidden: Float[Tensor, "*batch node hidden"]
    ) -> Float[Tensor, "*batch node hidden"]:
        """Return the next state from the projected input and the state read: the recurrent half."""
        gate_input, candidate_input = torch.split(projected, [2 * self.hidden, self.hidden], dim=-1)
        gates = torch.sigmoid(gate_input + propagate(self.basis, hidden) @ self.gate_weight)
        keep, reset = gates.chunk(2, dim=-1)
        candidate = candidate_input + propagate(self.basis, reset * hidden) @ self.candidate_weight
        candidate = torch.tanh(candidate)
        return candidate + keep * (hidden - candidate)
