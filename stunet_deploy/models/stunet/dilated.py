"""The dilated recurrent layer: one step, and a whole sequence at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stunet_deploy.models.stunet.graph_gru import GCGRUCell
from stunet_deploy.models.stunet.propagation import Basis


class DilatedGCGRU(nn.Module):
    """GCGRU layer that reads its own state of ``dilation`` intervals ago: h_t = cell(X_t, h_{t−s}) (ST-UNet, Eq. 8).

    Over a sequence this is s independent chains, interleaved in time::

        s = 2    h_0 ← line[0]   h_1 ← line[1]   h_2 ← h_0   h_3 ← h_1   h_4 ← h_2 …

    ``forward`` runs the chains side by side: T/s sequential updates on s·batch rows.

    Args:
        basis: Chebyshev polynomials of the layer's graph.
        in_channels, hidden: channels per node.
        dilation: s, the delay of the layer's state in intervals.
        layer_norm: normalise the output over channels; the recurrence itself stays as it is.
    """

    def __init__(self, basis: Basis, in_channels: int, hidden: int, dilation: int, layer_norm: bool) -> None:
        super().__init__()
        self.cell = GCGRUCell(basis, in_channels, hidden)
        self.norm = nn.LayerNorm(hidden) if layer_norm else nn.Identity()
        self.dilation = dilation

    @property
    def state_shape(self) -> tuple[int, int]:
        """(node, hidden) of the layer's state."""
        return self.cell.nodes, self.cell.hidden

    def step(
        self, projected: Float[Tensor, "*batch node gates"], hidden: Float[Tensor, "*batch node hidden"]
    ) -> tuple[Float[Tensor, "*batch node hidden"], Float[Tensor, "*batch node hidden"]]:
        """Return (output, state to be read ``dilation`` intervals later) for one interval's projected input."""
        hidden = self.cell.update(projected, hidden)
        return self.norm(hidden), hidden

    def forward(
        self, projected: Float[Tensor, "batch time node gates"], line: Float[Tensor, "delay batch node hidden"]
    ) -> tuple[Float[Tensor, "batch time node hidden"], Float[Tensor, "batch time node hidden"]]:
        """Return (outputs, states) for a sequence's projected inputs, all at once.

        ``line`` holds the last ``dilation`` states before it, oldest first.
        """
        time, chains = projected.shape[1], self.dilation
        # The end is padded, never the front: a cell fed zeros still changes its state.
        padding = -time % chains
        if padding:
            projected = nn.functional.pad(projected, (0, 0, 0, 0, 0, padding))
        chained = torch.unflatten(projected, 1, (-1, chains))
        hidden = line.transpose(0, 1)
        states = []
        for rows in chained.unbind(1):
            hidden = self.cell.update(rows, hidden)
            states.append(hidden)
        sequence = torch.cat(states, dim=1)[:, :time]
        return self.norm(sequence), sequence


def final_line(
    line: Float[Tensor, "delay batch node hidden"], states: Float[Tensor, "batch time node hidden"]
) -> Float[Tensor, "delay batch node hidden"]:
    """Return the line after a sequence: its last states, and older ones where it was shorter than the delay."""
    delay = len(line)
    return torch.cat([line, states[:, -delay:].transpose(0, 1)])[-delay:]


def recent_states(
    line: Float[Tensor, "delay batch node hidden"], states: Float[Tensor, "batch time node hidden"]
) -> list[Float[Tensor, "batch time node hidden"]]:
    """Return, for every interval of a sequence, the last ``delay`` states, oldest first, its own being the last."""
    history = torch.cat([line.transpose(0, 1), states], dim=1)
    return [history[:, 1 + first : 1 + first + states.shape[1]] for first in range(len(line))]
