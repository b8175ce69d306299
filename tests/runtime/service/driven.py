"""A service in a process of its own, whose clock is the number in a file: ``-m tests.runtime.service.driven``."""

from __future__ import annotations

import sys
from pathlib import Path

from runtime.service.config import read_config
from runtime.service.orders import Orders
from runtime.service.supervisor import Service


def main(config: str, clock: str) -> None:
    """Run the service of a config file until a signal."""
    orders = Orders()
    with orders.from_signals(to_the_end=True):
        service = Service(
            read_config(Path(config)), sys.stdout, clock=lambda: float(Path(clock).read_text()), orders=orders
        )
        service.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
