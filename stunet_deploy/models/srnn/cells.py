"""LSTM and GRU cells of Structural-RNN, in two halves, with explicit state; ST-UNet's is in ``stunet/graph_gru.py``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: The tensors of a cell's state, [*batch, row, hidden] each, in the order of the cell's ``parts``.
CellState = tuple[Tensor, ...]


class Cell(nn.Module):
    """A recurrent cell in two halves: a projection of the input, and the recurrence.

    Args:
        in_channels, hidden: channels per row.
        gates: blocks of ``hidden`` columns that the input is projected to.
    """

    parts: ClassVar[tuple[str, ...]]

    def __init__(self, in_channels: int, hidden: int, gates: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input_weight = nn.Parameter(torch.empty(in_channels, gates * hidden))
        self.hidden_weight = nn.Parameter(torch.empty(hidden, gates * hidden))
        self.bias = nn.Parameter(torch.zeros(gates * hidden))
        for gate in range(gates):
            columns = slice(gate * hidden, (gate + 1) * hidden)
            nn.init.xavier_uniform_(self.input_weight[:, columns])
            nn.init.orthogonal_(self.hidden_weight[:, columns])

    def project(self, x: Float[Tensor, "*batch row channel"]) -> Float[Tensor, "*batch row gates"]:
        """Return the input's part of all gates: the half without state, for any number of intervals at once."""
        return x @ self.input_weight + self.bias

    def update(self, projected: Float[Tensor, "*batch row gates"], state: CellState) -> CellState:
        """Return the next state; its first tensor is the output."""
        raise NotImplementedError


class LSTMCell(Cell):
    """i, f, o = σ(W x + U h), g = tanh(W x + U h), c ← f ⊙ c + i ⊙ g, h ← o ⊙ tanh(c)."""

    parts = ("hidden", "cell")

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__(in_channels, hidden, 4)
        with torch.no_grad():
            self.bias[hidden : 2 * hidden] = 1.0  # a new cell remembers

    def update(self, projected: Float[Tensor, "*batch row gates"], state: CellState) -> CellState:
        """Return the next (h, c)."""
        hidden, cell = state
        gates = projected + hidden @ self.hidden_weight
        sigmoids, candidate = torch.split(gates, [3 * self.hidden, self.hidden], dim=-1)
        write, keep, read = torch.sigmoid(sigmoids).chunk(3, dim=-1)
        cell = keep * cell + write * torch.tanh(candidate)
        return read * torch.tanh(cell), cell


class GRUCell(Cell):
    """z, r = σ(W x + U h), h' = tanh(W x + U (r ⊙ h)), h ← z ⊙ h + (1 − z) ⊙ h' (Cho et al. 2014)."""

    parts = ("hidden",)

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__(in_channels, hidden, 3)
        with torch.no_grad():
            self.bias[: 2 * hidden] = 1.0  # gates start open, as in the graph-convolutional cell

    def update(self, projected: Float[Tensor, "*batch row gates"], state: CellState) -> CellState:
        """Return the next (h,)."""
        (hidden,) = state
        gate_input, candidate_input = torch.split(projected, [2 * self.hidden, self.hidden], dim=-1)
        gate_weight, candidate_weight = torch.split(self.hidden_weight, [2 * self.hidden, self.hidden], dim=-1)
        keep, reset = torch.sigmoid(gate_input + hidden @ gate_weight).chunk(2, dim=-1)
        candidate = torch.tanh(candidate_input + (reset * hidden) @ candidate_weight)
        return (candidate + keep * (hidden - candidate),)


CELLS: dict[str, type[LSTMCell] | type[GRUCell]] = {"lstm": LSTMCell, "gru": GRUCell}


class Factor(nn.Module):
    """A nodeRNN or edgeRNN, shared by all rows of its type: linear layers with ReLU between them, then a cell.

    Args:
        in_channels: of the raw features.
        embedding: widths of the linear layers; none feeds the features as they are.
        hidden: channels of the cell.
        cell: a key of :data:`CELLS`.
        skip: the output is the cell's, with its input beside it.
    """

    def __init__(self, in_channels: int, embedding: Sequence[int], hidden: int, cell: str, skip: bool) -> None:
        super().__init__()
        self.embedding = dense([in_channels, *embedding])
        embedded = embedding[-1] if embedding else in_channels
        self.cell = CELLS[cell](embedded, hidden)
        self.skip = skip
        self.channels = hidden + embedded * skip

    def output(
        self, hidden: Float[Tensor, "*batch row hidden"], embedded: Float[Tensor, "*batch row embedded"]
    ) -> Float[Tensor, "*batch row channel"]:
        """Return the output of the factor to other factors."""
        return torch.cat([hidden, embedded], dim=-1) if self.skip else hidden


def dense(widths: Sequence[int]) -> nn.Sequential:
    """Return linear layers between these widths with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.ReLU()] if layers else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


def run_cell(
    cell: Cell,
    projected: Float[Tensor, "batch time row gates"],
    state: CellState,
    fresh: Float[Tensor, "batch time row 1"] | None,
) -> list[CellState]:
    """Return the state after every interval of a sequence; rows that are ``fresh`` start the interval from zero."""
    states = []
    for interval, rows in enumerate(projected.unbind(1)):
        state = cell.update(rows, renewed(state, None if fresh is None else fresh[:, interval]))
        states.append(state)
    return states


def renewed(state: CellState, fresh: Tensor | None) -> CellState:
    """Return the state with zeros in the rows where ``fresh`` is 1; selected, never multiplied."""
    return state if fresh is None else tuple(torch.where(fresh > 0.5, 0.0, part) for part in state)
