"""The step contract: what one recurrent step reads, writes and remembers.

A state entry has a *delay* d: the tensor that the step writes at interval t is read at interval t + d, and at the
younger ages listed in its *taps*. The step never shifts or copies a line of states; who owns the slots is the
runtime's business::

    interval t        reads  state.<name>        slot (t - d) mod R        age d
                      reads  state.<name>.age1   slot (t - 1) mod R        only if 1 is among the taps
                      writes next_state.<name>   slot  t      mod R        R = largest delay + 1

The same names are used in the checkpoint, in ONNX, in engines, snapshots and logs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import BundleError, ConfigError, shown
from stunet_deploy.limits import MOST_AXES, MOST_STATE, MOST_TENSORS

STATE = "state."
NEXT_STATE = "next_state."
#: Seconds after which nothing of a reading is left in a lasting state that was written all the time.
MEMORY_S = 8 * 86_400

#: What a delay line looks like to a caller: one array [delay, batch, ...] per state entry, oldest interval first.
Lines = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TensorSpec:
    """Name, axes, shape and dtype of one input or output of a step.

    Attributes:
        name: the tensor's name in every format.
        axes: a word for each axis, the first being ``batch``.
        shape: the length of each axis; ``None`` for the batch axis, whose length the caller chooses.
        dtype: a numpy dtype name.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int | None, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        free = [length is None for length in self.shape]
        if (
            len(self.axes) != len(self.shape)
            or self.axes[:1] != ("batch",)
            or free != [True] + [False] * (len(free) - 1)
        ):
            raise BundleError(
                f"tensor {shown(self.name)} with axes {shown(self.axes)} and shape {shown(self.shape)}",
                "one word per axis, the first being a free 'batch', and the length of each other",
                "correct the model's contract",
            )

    def with_batch(self, batch: int) -> tuple[int, ...]:
        """Return the concrete shape for ``batch`` rows."""
        return tuple(batch if length is None else length for length in self.shape)

    def row_bytes(self) -> int:
        """Return the size of one batch row in bytes."""
        return int(np.prod(self.with_batch(1))) * np.dtype(self.dtype).itemsize

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form read by :meth:`StepContract.from_json`."""
        return {"name": self.name, "axes": list(self.axes), "shape": list(self.shape), "dtype": self.dtype}


@dataclass(frozen=True)
class StateSpec(TensorSpec):
    """A state entry: a tensor written at interval t and read at t + delay.

    Attributes:
        delay: age in intervals at which the state is read (the dilation of a dilated layer).
        taps: all ages that the step reads, oldest first; the delay alone by default.
        lasting: the state holds for any later time, so that a stream keeps it when a gap makes the others worthless.
    """

    delay: int = 1
    taps: tuple[int, ...] = ()
    lasting: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.taps:
            object.__setattr__(self, "taps", (self.delay,))
        ages_valid = self.delay >= 1 and all(1 <= age <= self.delay for age in self.taps)
        if not ages_valid or self.taps[0] != self.delay or list(self.taps) != sorted(set(self.taps), reverse=True):
            raise BundleError(
                f"state {shown(self.name)} with delay {self.delay} and taps {shown(self.taps)}",
                "a delay of at least 1 and distinct taps from the delay downwards",
                "correct the model's contract",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form read by :meth:`StepContract.from_json`."""
        lasting = {"lasting": True} if self.lasting else {}
        return super().to_json() | {"delay": self.delay, "taps": list(self.taps)} | lasting


class Tap(NamedTuple):
    """One state input of a step: entry ``state`` read at ``age`` under the tensor name ``name``."""

    name: str
    state: StateSpec
    age: int


@dataclass(frozen=True)
class StepContract:
    """Inputs, outputs and state of one step, in the order in which every format lists them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]

    def __post_init__(self) -> None:
        tensors = (*self.inputs, *self.outputs, *self.states)
        if len(tensors) + sum(len(state.taps) for state in self.states) > MOST_TENSORS:
            raise BundleError(
                "a step of very many tensors", f"at most {MOST_TENSORS:,}", "correct the model's contract"
            )
        if any(len(tensor.shape) > MOST_AXES for tensor in tensors):
            raise BundleError("a tensor of very many axes", f"at most {MOST_AXES}", "correct the model's contract")
        names = [*self.input_names, *self.output_names]
        if len(set(names)) != len(names):
            twice = sorted(name for name, count in Counter(names).items() if count > 1)
            raise BundleError(f"tensor names used twice: {twice}", "distinct names", "correct the model's contract")

    @property
    def slots(self) -> int:
        """Number of slots R per state entry: the largest delay plus the slot being written."""
        return max((state.delay for state in self.states), default=0) + 1

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Every state input of the step: ``state.<name>`` at age = delay, ``state.<name>.age<a>`` for younger taps."""
        return tuple(
            Tap(STATE + state.name + ("" if age == state.delay else f".age{age}"), state, age)
            for state in self.states
            for age in state.taps
        )

    @property
    def lasting(self) -> tuple[str, ...]:
        """Names of the state entries that a stream keeps after a gap."""
        return tuple(state.name for state in self.states if state.lasting)

    @property
    def step_inputs(self) -> tuple[TensorSpec, ...]:
        """All tensors that a step reads, by their names in its graph: ordinary inputs first, then taps."""
        return (*self.inputs, *(_renamed(tap.state, tap.name) for tap in self.taps))

    @property
    def step_outputs(self) -> tuple[TensorSpec, ...]:
        """All tensors that a step writes, by their names in its graph: ordinary outputs first, then states."""
        return (*self.outputs, *(_renamed(state, NEXT_STATE + state.name) for state in self.states))

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of all step inputs, ordinary inputs first."""
        return tuple(spec.name for spec in self.step_inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of all step outputs, ordinary outputs first."""
        return tuple(spec.name for spec in self.step_outputs)

    @property
    def next_state_names(self) -> tuple[str, ...]:
        """Names of the tensors that carry the states written, in the order of the entries."""
        return tuple(NEXT_STATE + state.name for state in self.states)

    def initial_lines(self, batch: int) -> Lines:
        """Return the lines of a fresh stream: zeros [delay, batch, ...] per state entry."""
        return {s.name: np.zeros((s.delay, *s.with_batch(batch)), dtype=s.dtype) for s in self.states}

    def state_bytes(self, batch: int = 1) -> int:
        """Return the memory that all slots of all state entries take, in bytes."""
        return self.slots * batch * sum(state.row_bytes() for state in self.states)

    def check_size(self) -> None:
        """Check that a stream can be held in memory.

        Raises:
            BundleError: it would take more than any does.
        """
        tensors = (*self.inputs, *self.outputs, *self.states)
        odd = [tensor.dtype for tensor in tensors if tensor.dtype != "float32"]
        if odd:
            raise BundleError(f"tensors of {odd[0]!r}", "float32", "export the model again")
        if any(length is not None and length < 1 for tensor in tensors for length in tensor.shape):
            raise BundleError("tensors without numbers", "axes of a length of at least 1", "export the model again")
        size = sum(4 * math.prod(tensor.with_batch(1)) for tensor in tensors)
        size += self.slots * sum(4 * math.prod(state.with_batch(1)) for state in self.states)
        if size > MOST_STATE:
            raise BundleError(
                f"a step whose tensors and {self.slots:,} slots of states take {size:,} bytes",
                f"at most {MOST_STATE:,}",
                "export the model again",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form stored in a bundle's manifest."""
        return {name: [spec.to_json() for spec in getattr(self, name)] for name in ("inputs", "outputs", "states")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepContract:
        """Read a contract back from :meth:`to_json`.

        Raises:
            BundleError: if an entry is missing or malformed.
        """
        try:
            return from_mapping(cls, {name: data[name] for name in ("inputs", "outputs", "states") if name in data})
        except ConfigError as error:
            raise BundleError(
                f"a step contract that cannot be read ({error})",
                "inputs, outputs and states as 'stunet-export' writes them",
                "export the model again",
            ) from error


def _renamed(spec: TensorSpec, name: str) -> TensorSpec:
    return TensorSpec(name, spec.axes, spec.shape, spec.dtype)


def advance(lines: Lines, next_state: Mapping[str, NDArray[np.float32]]) -> Lines:
    """Append the states just written to their lines and drop the oldest: the slow meaning of the slot rule."""
    return {name: np.concatenate([line, next_state[name][None]])[1:] for name, line in lines.items()}


def read_taps(contract: StepContract, lines: Lines) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield (tensor name, [batch, ...]) for every tap of a step from lines [delay, batch, ...], oldest first."""
    for tap in contract.taps:
        yield tap.name, lines[tap.state.name][tap.state.delay - tap.age]
