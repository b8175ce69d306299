"""``stunet run --config``: the streams of a config file, as a service."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stunet_deploy.cli.console import Console
from stunet_deploy.errors import ConfigError, StunetError

if TYPE_CHECKING:
    from runtime.service.config import ServiceConfig


def run_service(arguments: argparse.Namespace, console: Console) -> int:
    """Run the streams of a config file until a signal or the end of their sources, or only check them."""
    from runtime.service.config import read_config

    if arguments.bundle is not None or arguments.replay is not None:
        raise ConfigError("--config with a bundle or --replay", "one or the other", "name them in the config file")
    if arguments.trust:
        raise ConfigError("--config with --trust", "one or the other", "name the keys in the file, under [bundle]")
    config = read_config(arguments.config)
    if arguments.dry_run:
        return _check(config, arguments.config, console)

    from runtime.service.logs import LOG, start_log
    from runtime.service.supervisor import Service, obeying_signals

    handler = start_log(config.log, console.err)
    try:
        service = Service(config, console.out, reread=lambda: read_config(arguments.config))
        with obeying_signals(service):
            service.run()
    finally:
        LOG.removeHandler(handler)
    return 0


def _check(config: ServiceConfig, path: Path, console: Console) -> int:
    from runtime.service.check import check_service

    found = check_service(config)
    problems = [
        {"came": problem.came, "expected": problem.expected, "action": problem.action} for problem in found.problems
    ]
    console.answer({"plan": found.plan, "problems": problems, "notes": found.notes}, "\n".join(found.plan))
    for note in found.notes:
        console.say(f"note: {note}")
    for problem in found.problems:
        console.fail(problem)
    if found.problems:
        return StunetError.exit_code
    console.next(f"stunet run --config {path}")
    return 0
