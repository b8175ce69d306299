"""Many streams of one bundle in one batched step: a row each, with a clock, gaps and resets of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.backends.base import ONNXRUNTIME, Backend, open_backend
from runtime.backends.buffers import zero_buffers
from runtime.backends.slots import check_lines
from runtime.clock import Timestamp
from runtime.forecast import Forecast
from runtime.options import StreamOptions
from runtime.readings import Values
from runtime.stream import Stream
from runtime.window import FORECAST, Carry, Inputs, Steps, check_contract
from stunet_deploy.bundle import FLOAT32, Bundle
from stunet_deploy.contract import Lines, StepContract
from stunet_deploy.errors import StreamError


class StreamGroup:
    """Streams of one bundle that step together; open one with :meth:`open`.

    Every member is a :class:`runtime.stream.Stream` whole: it refuses, bridges, resets, counts and takes snapshots by
    itself, and forecasts what it would forecast alone, up to the rounding of a larger matrix product. What they share
    is the step: one call for all members that were given an interval. A member that was given none, or that bridges
    fewer missing intervals than another one, stays as it is while the others step; that costs a copy of the state, so
    give all of them their interval in one push where you can.

    Not for use from two threads.

    Args:
        bundle: the model.
        backend: with as many rows as there are members.
        names: of the members; they appear in their forecasts.
        options: of every member.

    Attributes:
        streams: the members. Each may be pushed alone, reset, snapshotted and restored; closing is the group's.

    Raises:
        StreamError: if there are not as many names as rows.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        names: Sequence[str],
        *,
        options: StreamOptions | None = None,
    ) -> None:
        if len(names) != backend.batch:
            raise StreamError(
                f"{len(names)} names", f"{backend.batch}, one per row of the backend", "name every stream"
            )
        self._rows = _Rows(backend)
        self.streams = tuple(
            Stream(bundle, Carry(_Row(self._rows, row)), name=name, options=options) for row, name in enumerate(names)
        )

    @classmethod
    def open(
        cls,
        bundle: Bundle | str | Path,
        count: int,
        *,
        backend: str = ONNXRUNTIME,
        precision: str = FLOAT32,
        threads: int = 1,
        fallback: bool = True,
        names: Sequence[str] | None = None,
        options: StreamOptions | None = None,
    ) -> StreamGroup:
        """Open a bundle on a backend and return a group of fresh streams of it.

        Args:
            bundle: a bundle or its folder.
            count: number of streams.
            backend, precision, threads, fallback: see :meth:`Stream.open`.
            names: of the streams; by default ``stream 0`` and so on.
            options: of every stream.

        Raises:
            BundleError, BackendError, ConfigError, StreamError: if bundle, backend or an argument does not serve.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        check_contract(opened.manifest)
        runner = open_backend(opened, backend, precision=precision, batch=count, threads=threads, fallback=fallback)
        return cls(
            opened,
            runner,
            [f"stream {number}" for number in range(count)] if names is None else names,
            options=options,
        )

    def __len__(self) -> int:
        return len(self.streams)

    @property
    def backend(self) -> Backend:
        """The backend that runs the steps of all members."""
        return self._rows.backend

    def push(
        self,
        values: Sequence[Values] | NDArray[Any],
        timestamps: Sequence[Timestamp | None],
        observed: Sequence[ArrayLike] | NDArray[Any] | None = None,
        *,
        now: float | None = None,
    ) -> list[Forecast | None]:
        """Take the readings of one interval of every member and forecast the next ones.

        Args:
            values: [stream, node, feature], or what :meth:`Stream.push` takes for each stream.
            timestamps: [stream], each stream's own; None for a stream that has no interval this time.
            observed: [stream, node, feature], 0 or False where a value must not be used.
            now: the controller's clock; see :meth:`Stream.push`.

        Returns:
            The forecast of every stream, None where it had no interval.

        Raises:
            StreamError: naming the first stream whose readings or time cannot be accepted; no stream has changed.
            BackendError: if the backend fails; reset the group before it is used again.
        """
        lengths = {len(values), len(timestamps), len(self) if observed is None else len(observed)}
        if lengths != {len(self)}:
            raise StreamError(
                f"readings, time stamps and masks of {sorted(lengths)} streams",
                f"{len(self)} of each",
                "give every stream its own, and None as the time of one without an interval",
                reason="shape",
            )
        found: list[Forecast | None] = [None] * len(self)
        accepted = {}
        for row, (stream, timestamp) in enumerate(zip(self.streams, timestamps, strict=True)):
            if timestamp is None:
                continue
            try:
                taken = stream.accept(values[row], timestamp, None if observed is None else observed[row], now=now)
            except StreamError as error:
                raise StreamError(
                    f"{stream.name}: {error.came}", error.expected, error.action, reason=error.reason
                ) from error
            if isinstance(taken, Forecast):
                found[row] = taken
            else:
                accepted[row] = taken
        for row, forecast in self._run(
            {row: self.streams[row].steps(taken) for row, taken in accepted.items()}
        ).items():
            found[row] = forecast
        return found

    def _run(self, members: Mapping[int, Steps[Forecast]]) -> dict[int, Forecast]:
        """Run the steps of members, as many at once as there are, until all are done."""
        asked = {row: next(steps) for row, steps in members.items()}
        done: dict[int, Forecast] = {}
        while asked:
            forecasts = self._rows.step(asked)
            running, asked = asked, {}
            for row in running:
                try:
                    asked[row] = members[row].send(forecasts[row].copy())
                except StopIteration as finished:
                    done[row] = finished.value
        return done

    def reset(self) -> None:
        """Let every member forget everything but its counters."""
        for stream in self.streams:
            stream.reset()

    def close(self) -> None:
        """Give the backend's memory back; group and members must not be used afterwards."""
        self.backend.close()


class _Rows:
    """A backend of which some rows step and the others stay as they are."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._inputs = zero_buffers(backend.contract.inputs, backend.batch)
        self._zero = set(range(backend.batch))

    def step(self, rows: Mapping[int, Inputs]) -> NDArray[np.float32]:
        """Step some rows and return the forecasts [batch, horizon, node, target], to be copied before the next step."""
        for row, inputs in rows.items():
            for name, array in inputs.items():
                self._inputs[name][row] = array[0]
        # What has stepped along is put back: a row in zero state by zeroing it, which copies nothing.
        zero = sorted(self._zero - rows.keys())
        held = [row for row in range(self.backend.batch) if row not in rows and row not in self._zero]
        before = self.backend.read_lines() if held else {}
        forecasts: NDArray[np.float32] = self.backend.step(self._inputs)[FORECAST]
        if held:
            after = self.backend.read_lines()
            for name, line in after.items():
                line[:, held] = before[name][:, held]
            self.backend.write_lines(after)
        if zero:
            self.backend.reset(zero)
        self._zero -= rows.keys()
        return forecasts

    def reset(self, row: int) -> None:
        """Bring a row to zero state."""
        self.backend.reset([row])
        self._zero.add(row)

    def read(self, row: int) -> Lines:
        """Return a copy of a row's state."""
        return {name: line[:, row : row + 1] for name, line in self.backend.read_lines().items()}

    def write(self, row: int, lines: Lines) -> None:
        """Replace a row's state."""
        check_lines(self.backend.contract, 1, lines)
        whole = self.backend.read_lines()
        for name, line in whole.items():
            line[:, row] = lines[name][:, 0]
        self.backend.write_lines(whole)
        self._zero.discard(row)


class _Row:
    """One row as a backend of its own; see :class:`runtime.backends.base.Backend`."""

    batch = 1

    def __init__(self, rows: _Rows, row: int) -> None:
        self._rows = rows
        self._row = row

    @property
    def name(self) -> str:
        """Name of the backend that runs the steps."""
        return self._rows.backend.name

    @property
    def degraded(self) -> str | None:
        """Why forecasts are marked as degraded."""
        return self._rows.backend.degraded

    @property
    def contract(self) -> StepContract:
        """Inputs, outputs and state of the step."""
        return self._rows.backend.contract

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run one interval of this row alone; all others stay as they are."""
        return {FORECAST: self._rows.step({self._row: dict(inputs)})[self._row : self._row + 1]}

    def reset(self, rows: Collection[int] | None = None) -> None:
        """Bring the row to zero state."""
        self._rows.reset(self._row)

    def read_lines(self) -> Lines:
        """Return a copy of the row's state."""
        return self._rows.read(self._row)

    def write_lines(self, lines: Lines) -> None:
        """Replace the row's state."""
        self._rows.write(self._row, lines)

    def close(self) -> None:
        """Leave the memory to the group."""
