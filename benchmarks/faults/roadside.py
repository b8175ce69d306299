"""A controller as it stands at the road: a service in a process of its own, its broker, a sender and a receiver."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.faults.brokers import FORECAST, STATUS, Peer, wrong
from benchmarks.faults.driven import CONFIG, DrivenService
from benchmarks.faults.feed import GRACE_S, Feed, Message
from benchmarks.faults.live import Mosquitto, config_text
from benchmarks.faults.network import START_S, Mode
from stunet_deploy.bundle import Bundle

TOPIC = "readings"
_COPIES_S = 0.5  # for what comes twice


class Roadside:
    """The service and what is around it, all started.

    Args:
        folder: an empty one, for the files of all of them.
        bundles: models of one network; the service begins with the first.
        mode: of its stream.
        single: whether single readings are sent.
        every: intervals between two snapshots.
    """

    def __init__(self, folder: Path, bundles: Sequence[Bundle], mode: Mode, *, single: bool, every: int) -> None:
        self._folder = folder
        self._single = single
        self._options = f'mode = "{mode}"\nsnapshot_every = {every}'
        for name in ("broker", "expected", "service"):
            (folder / name).mkdir()
        self.broker = Mosquitto(folder / "broker")
        self.feed = Feed(folder / "expected", bundles, mode, single=single)
        self.receiver = Peer(self.broker, "receiver", FORECAST)
        self._sender = Peer(self.broker, "sender", STATUS)
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sending = threading.Thread(
            target=self._sender.publish_in_order, args=(TOPIC, iter(self._waiting.get, None)), daemon=True
        )
        self._sending.start()
        self.configure(bundles[0])
        self.service = DrivenService(folder / "service", START_S)
        self._sender.wait_for(lambda: b"online" in self._sender.received)  # and has subscribed

    def configure(self, bundle: Bundle) -> None:
        """Name a bundle in the config of the service."""
        source = f'kind = "mqtt"\ntopics = ["{TOPIC}"]'
        sinks = ('kind = "mqtt"', 'kind = "csv"\nfolder = "out"')
        grace_s = GRACE_S if self._single else None
        top = self.broker.table() + "\n[http]\nport = 0"
        text = config_text(bundle, source, sinks, options=self._options, top=top, grace_s=grace_s)
        (self._folder / "service" / CONFIG).write_text(text)

    def send(self, messages: Iterable[Message]) -> None:
        """Send messages, each at its time by the service's clock, without waiting for anything."""
        for message in messages:
            self.service.now = message.now
            if message.payload:
                self._waiting.put(message.payload)
            self.feed.note(message)

    def settle(self) -> dict[str, Any]:
        """Wait until the service has taken all that was sent, and return its status.

        Raises:
            TimeoutError: if it does not, or has ended.
        """
        return self.service.wait_for(self.feed.taken)

    def run(self, intervals: int) -> None:
        """Send so many intervals, each when the service has taken the one before.

        Raises:
            TimeoutError: if it does not.
        """
        for _ in range(intervals):
            self.send(self.feed.interval())
            self.settle()

    def go_on(self, intervals: int) -> None:
        """Send so many intervals to a service or a broker that is away."""
        for _ in range(intervals):
            self.send(self.feed.interval())

    def stop_broker(self) -> None:
        """Stop the broker, and wait until the service has seen it.

        Raises:
            TimeoutError: if the service has ended.
        """
        self.broker.stop()
        self.service.wait_for(lambda status: not status["connected"])

    def judge(self) -> list[str]:
        """Stop the service when it has taken everything; return what is wrong with what it made of it."""
        failures = []
        try:
            status = self.settle()
        except TimeoutError as error:
            failures.append(str(error))
        else:
            refused = Counter(status["stream"]["refused"])
            refused.update(status["assembler"]["refused"] if self._single else {})
            del refused["late"]  # copies: else something would be missing
            failures += [f"{number} refused as {reason}" for reason, number in refused.items() if number]
        with suppress(TimeoutError):
            last = max(self.feed.expected).encode()
            self.receiver.wait_for(lambda: any(last in line for line in self.receiver.received[-1:]))
        time.sleep(_COPIES_S)
        code = self.service.stop()
        if code:
            failures.append(f"exit code {code}")
        if "Traceback" in self.service.log:
            failures.append(f"a traceback: {self.service.log[-2000:]}")
        return (
            failures
            + wrong(self.receiver.received, self.feed.expected)
            + self.feed.wrong_files(self._folder / "service" / "out")
        )

    @property
    def copies(self) -> int:
        """Forecasts that came more than once."""
        return len(self.receiver.received) - len(self.feed.expected)

    def close(self) -> None:
        """End what still runs."""
        self.service.end()
        self._waiting.put(None)
        self._sender.close()
        self.receiver.close()
        self.feed.close()
        self.broker.stop()
