"""A device like CUDA in host memory that runs late, and refuses what a GPU would do silently wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from runtime.backends.gpu.backend import DeviceBackend
from runtime.backends.onnxruntime.session import import_onnxruntime, open_session, run_options
from stunet_deploy.bundle import Bundle
from stunet_deploy.contract import NEXT_STATE

POOL, PAGE, STREAM = 1 << 20, 256, 7
GARBAGE = 0xFF  # NaN as float32
NEVER = -1


class AccessError(Exception):
    """Something that CUDA allows and that gives wrong numbers, or that it forbids."""


@dataclass(frozen=True)
class Span:
    """Bytes of device memory."""

    begin: int
    size: int

    @property
    def end(self) -> int:
        return self.begin + self.size

    def meets(self, other: Span) -> bool:
        return self.begin < other.end and other.begin < self.end


@dataclass(frozen=True)
class Work:
    """Something on the stream; ``arm`` is called when it is put there and returns what is called when it runs."""

    name: str
    reads: tuple[Span, ...]
    writes: tuple[Span, ...]
    arm: Callable[[], Callable[[], None]]
    stamp: Callable[[], int]


class HostDevice:
    """See :class:`runtime.backends.gpu.device.Device`. What is put on the stream runs when the host waits, not before.

    Every byte carries a stamp: 2c for a copy or zeroing after c steps, 2n + 1 for what step n wrote.
    """

    stream = STREAM

    def __init__(self) -> None:
        whole = np.full(POOL + PAGE, GARBAGE, np.uint8)
        shift = -whole.ctypes.data % PAGE
        self._pool = whole[shift : shift + POOL]
        self.base = self._pool.ctypes.data
        self.stamps = np.full(POOL, NEVER, np.int64)
        self.counts: Counter[str] = Counter()
        self.steps = 0
        self.eager: set[int] = set()  # steps that ran outside a graph
        self.launching = False
        self.closed = False
        self._top = 0
        self._spans: list[Span] = []
        self._buffers: list[np.ndarray] = []
        self._queue: list[tuple[Work | None, Callable[[], None], bool]] = []
        self._graph: list[Work] | None = None
        self._recorded = 0
        self._running: Work | None = None
        self._in_use = False

    def allocate(self, size: int) -> int:
        self._forbid("allocation")
        if self._in_use:
            raise AccessError("allocation after the first interval")
        span = Span(self.base + self._top, size)
        self._top += -(-size // PAGE) * PAGE + PAGE  # a page between two tensors, so that no overrun goes unseen
        assert self._top <= POOL
        self._spans.append(span)
        return span.begin

    def host_buffer(self, size: int) -> np.ndarray:
        self._forbid("allocation of host memory")
        self._buffers.append(np.zeros(size, np.uint8))
        return self._buffers[-1]

    def copy_in(self, address: int, array: np.ndarray) -> None:
        target = Span(address, array.nbytes)

        def arm() -> Callable[[], None]:
            before = array.tobytes()

            def run() -> None:
                if array.tobytes() != before:
                    raise AccessError("a host buffer was written while a copy from it was in flight")
                self.access(target)[...] = np.frombuffer(before, np.uint8)

            return run

        self._copy(Work("copy in", (), (target,), arm, lambda: 2 * self.steps), array)

    def copy_out(self, array: np.ndarray, address: int) -> None:
        source = Span(address, array.nbytes)

        def arm() -> Callable[[], None]:
            array.view(np.uint8)[...] = GARBAGE  # whoever reads it before the wait reads this

            def run() -> None:
                if (array.view(np.uint8) != GARBAGE).any():
                    raise AccessError("a host buffer was written while a copy to it was in flight")
                array.reshape(-1).view(np.uint8)[...] = self.access(source)

            return run

        self._copy(Work("copy out", (source,), (), arm, lambda: 0), array)

    def _copy(self, work: Work, array: np.ndarray) -> None:
        if not array.flags.c_contiguous:
            raise AccessError("a copy of an array that is not contiguous")
        if self._graph is not None and not any(np.may_share_memory(array, buffer) for buffer in self._buffers):
            raise AccessError("a captured copy of pageable host memory")
        self.put(work, STREAM)

    def zero(self, address: int, pitch: int, width: int, height: int) -> None:
        runs = tuple(Span(address + row * pitch, width) for row in range(height))

        def run() -> None:
            for span in runs:
                self.access(span)[...] = 0

        self.put(Work("zero", (), runs, lambda: run, lambda: 2 * self.steps), STREAM)

    def put(self, work: Work, stream: int) -> None:
        """Put work on the stream, or into the graph that is being captured."""
        if stream != STREAM:
            raise AccessError(f"{work.name} on stream {stream}" + (" during a capture" * (self._graph is not None)))
        self._check(work)
        if self._graph is not None:
            self._graph.append(work)
        else:
            self._queue.append((work, work.arm(), False))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self._forbid("a capture")
        if self._queue:
            raise AccessError("a capture while the stream is busy")
        self._graph = []
        try:
            work()
            graph = self._graph
        finally:
            self._graph = None
        self.counts["captures"] += 1

        def launch() -> None:
            self._forbid("a launch")
            self.counts["launches"] += 1
            for each in graph:
                self._check(each)
            self._queue.extend((each, each.arm(), True) for each in graph)

        return launch

    def record(self) -> None:
        self._forbid("an event")
        self._in_use = True
        self._recorded = len(self._queue)
        self.counts["events"] += 1

    def wait(self) -> None:
        self._forbid("a wait")
        if not self._recorded:
            raise AccessError("a wait for an event that was not recorded")
        self.counts["waits"] += 1
        self._drain(self._recorded)

    def synchronize(self) -> None:
        self._forbid("a wait")
        self._drain(len(self._queue))

    def close(self) -> None:
        self._spans.clear()
        self.closed = True

    def access(self, span: Span) -> np.ndarray:
        """Return the bytes of a span to the work that is running, which must have declared them."""
        work = self._running
        assert work is not None
        declared = (*work.reads, *work.writes)
        if not any(known.begin <= span.begin and span.end <= known.end for known in declared):
            raise AccessError(f"{work.name} touches an address outside of what was put on the stream")
        return self._pool[span.begin - self.base : span.end - self.base]

    def stamps_of(self, span: Span) -> np.ndarray:
        """Return the stamps of a span."""
        return self.stamps[span.begin - self.base : span.end - self.base]

    def _forbid(self, what: str) -> None:
        if self._graph is not None:
            raise AccessError(f"{what} during a capture")

    def _check(self, work: Work) -> None:
        for span in (*work.reads, *work.writes):
            if not any(known.begin <= span.begin and span.end <= known.end for known in self._spans):
                raise AccessError(f"{work.name} at an address that is freed or out of bounds")
        for index, target in enumerate(work.writes):
            if any(target.meets(other) for other in (*work.reads, *work.writes[index + 1 :])):
                raise AccessError(f"{work.name} writes what it also reads or writes elsewhere")

    def _drain(self, count: int) -> None:
        ready, self._queue = self._queue[:count], self._queue[count:]
        self._recorded = 0
        for work, run, launched in ready:
            self._check(work)
            if any((self.stamps_of(span) == NEVER).any() for span in work.reads):
                raise AccessError(f"{work.name} reads memory that was never written")
            self._running, self.launching = work, launched
            try:
                run()
            finally:
                self._running = None
            for span in work.writes:
                self.stamps_of(span)[...] = work.stamp()
            if work.name == "step":
                if not launched:
                    self.eager.add(self.steps)
                self.steps += 1


class HostProgram:
    """A :class:`~runtime.backends.gpu.device.Program`: ONNX Runtime on the bytes at the addresses, in its turn."""

    def __init__(self, device: HostDevice, bundle: Bundle, batch: int, *, capturable: bool = True) -> None:
        contract = bundle.manifest.contract
        ort = import_onnxruntime()
        self.capturable = capturable
        self.stream = device.stream
        self._device = device
        self._ort = ort
        self._session = open_session(ort, bundle.graph(), contract, batch=batch)
        self._options = run_options(ort)
        self._ages = {tap.name: tap.age for tap in contract.taps}
        inputs = {spec.name: spec for spec in contract.inputs} | {tap.name: tap.state for tap in contract.taps}
        outputs = {s.name: s for s in contract.outputs} | {NEXT_STATE + s.name: s for s in contract.states}
        self.shapes = {
            name: (spec.with_batch(batch), np.dtype(spec.dtype)) for name, spec in (inputs | outputs).items()
        }
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._warm = False

    def span(self, name: str, address: int) -> Span:
        shape, dtype = self.shapes[name]
        return Span(address, int(np.prod(shape)) * dtype.itemsize)

    def bind(self, addresses: dict[str, int]) -> Callable[[], None]:
        reads = tuple(self.span(name, addresses[name]) for name in self._inputs)
        writes = tuple(self.span(name, addresses[name]) for name in self._outputs)
        work = Work("step", reads, writes, lambda: lambda: self.run(addresses), lambda: 2 * self._device.steps + 1)

        def step() -> None:
            if self._device._graph is not None and not self._warm:
                raise AccessError("the first step during a capture: libraries allocate at their first step")
            self._warm = True
            self._device.put(work, self.stream)

        return step

    def run(self, addresses: dict[str, int]) -> None:
        """Execute the step at these addresses."""
        device = self._device
        binding = self._session.io_binding()
        for name in (*self._inputs, *self._outputs):
            shape, dtype = self.shapes[name]
            span = self.span(name, addresses[name])
            array = device.access(span).view(dtype).reshape(shape)
            if name in self._inputs:
                self._check_age(name, device.stamps_of(span))
            value = self._ort.OrtValue.ortvalue_from_numpy(array)
            bind = binding.bind_ortvalue_input if name in self._inputs else binding.bind_ortvalue_output
            bind(name, value)
        self._session.run_with_iobinding(binding, self._options)

    def _check_age(self, name: str, stamps: np.ndarray) -> None:
        """An input was copied since the last step; a tap of age a was written a steps ago, or replaced since."""
        device, now = self._device, self._device.steps
        if name not in self._ages:
            if (stamps != 2 * now).any():
                raise AccessError(f"{name} was not copied in for this step")
            return
        written = 2 * (now - self._ages[name]) + 1
        replaced = (stamps % 2 == 0) & (stamps > written)
        if not ((stamps == written) | replaced).all():
            raise AccessError(f"{name} reads a stale slot")
        steps = {int(stamp) // 2 for stamp in np.unique(stamps) if stamp % 2}
        if device.launching and steps & device.eager:
            raise AccessError(f"{name} reads what a step before the first interval wrote")

    def close(self) -> None:
        self._session = None


@pytest.fixture(scope="session")
def host() -> SimpleNamespace:
    """The host device, its program, what they raise, and a function that opens a backend on them."""

    def open_backend(bundle: Bundle, batch: int = 1, *, capturable: bool = True, cls: type = DeviceBackend):
        device = HostDevice()
        program = HostProgram(device, bundle, batch, capturable=capturable)
        backend = cls("host", bundle.manifest.contract, batch, device, program)
        backend.device, backend.program = device, program
        return backend

    return SimpleNamespace(
        Device=HostDevice, Program=HostProgram, AccessError=AccessError, Work=Work, Span=Span, open=open_backend
    )
