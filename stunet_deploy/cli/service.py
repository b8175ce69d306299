"""``stunet run --config``: the streams of a config file, as a service."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stunet_deploy.cli.console import Console
from stunet_deploy.errors import ConfigError, StunetError, in_lines

if TYPE_CHECKING:
    from runtime.service.orders import Orders


def run_service(arguments: argparse.Namespace, console: Console) -> int:
    """Run the streams of a config file until a signal or the end of their sources, or only check them."""
    if arguments.bundle is not None or arguments.replay is not None:
        raise ConfigError("--config with a bundle or --replay", "one or the other", "name them in the config file")
    if arguments.trust:
        raise ConfigError("--config with --trust", "one or the other", "name the keys in the file, under [bundle]")
    if arguments.dry_run:
        return _check(arguments.config, console)
    # First of all: a signal that comes before it is obeyed ends the process as signals do.
    from runtime.service.orders import Orders, Stopped

    orders = Orders()
    with orders.from_signals(to_the_end=True):
        try:
            return _serve(arguments.config, console, orders)
        except Stopped:
            return 0


def _serve(path: Path, console: Console, orders: Orders) -> int:
    with orders.interrupting():
        from runtime.service.config import read_config
        from runtime.service.logs import LOG, start_log
        from runtime.service.orders import Stopped
        from runtime.service.supervisor import Service

        config = read_config(path)
        handler = start_log(config.log, console.err)
    try:
        with orders.interrupting():
            service = Service(config, console.out, reread=lambda: read_config(path), orders=orders)
        service.run()
    except Stopped:
        LOG.info("stopped during the start")
        raise
    finally:
        LOG.removeHandler(handler)
    return 0


def _check(path: Path, console: Console) -> int:
    from runtime.service.check import check_service
    from runtime.service.config import read_config

    config = read_config(path)

    found = check_service(config)
    problems = [
        {"came": problem.came, "expected": problem.expected, "action": problem.action} for problem in found.problems
    ]
    console.answer({"plan": found.plan, "problems": problems, "notes": found.notes}, in_lines(found.plan))
    for note in found.notes:
        console.say(f"note: {note}")
    for problem in found.problems:
        console.fail(problem)
    if found.problems:
        return StunetError.exit_code
    console.next(f"stunet run --config {path}")
    return 0
