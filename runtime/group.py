"""Many streams of one bundle in one batched step: a row each, with a clock, gaps and resets of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray

from runtime.backends.base import ONNXRUNTIME, Backend, open_backend
from runtime.backends.rows import BackendRow, SharedBackend
from runtime.clock import Timestamp
from runtime.forecast import Forecast
from runtime.options import StreamOptions
from runtime.readings import Values
from runtime.stream import Stream
from runtime.window import Carry, Steps
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import StreamError
from stunet_deploy.precisions import FLOAT32


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
        self._rows = SharedBackend(backend)
        self.streams = tuple(
            Stream(bundle, Carry(BackendRow(self._rows, row)), name=name, options=options)
            for row, name in enumerate(names)
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
