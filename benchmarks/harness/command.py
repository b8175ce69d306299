"""How a benchmark is run: its options, its short form, and its page written from what it measured."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness.page import measured_on, stored, write_page
from benchmarks.harness.weeks import WEEKS, small_recording
from benchmarks.harness.workbench import RESULTS, ROOT, SHARED
from stunet_deploy.errors import StunetError


class Command:
    """The command line of a benchmark.

    Args:
        module: what ``python -m`` runs.
        doc: its docstring, which is its help.
        page: name of its page; the last part of the module by default.
    """

    def __init__(self, module: str, doc: str | None, page: str = "") -> None:
        self.module = module
        self.page = page or module.rpartition(".")[2]
        self._parser = argparse.ArgumentParser(
            prog=f"python -m {module}",
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._quick: dict[str, Any] = {}
        self._weeks: Sequence[str] | None = None
        self._recording = False
        self.option("--out", RESULTS, "folder of the results", quick=ROOT / "out" / "quick")
        self.option("--quick", False, "small networks and few repeats, results in out/quick: whether it runs at all")
        self.option("--page-only", False, "write the page anew from the JSON of a run before, and measure nothing")

    def option(
        self,
        name: str,
        default: Any,
        text: str,
        *,
        quick: Any = None,
        kind: Callable[[str], Any] | None = None,
        choices: Iterable[Any] | None = None,
    ) -> None:
        """Declare an option.

        Args:
            name: with its dashes.
            default: its value when it is not given; a tuple takes several values, False makes a switch.
            text: for the help.
            quick: its default with --quick.
            kind: what reads a value; the type of the default otherwise.
            choices: the values that are allowed.
        """
        if quick is not None:
            self._quick[name.lstrip("-").replace("-", "_")] = quick
        if default is False:
            self._parser.add_argument(name, action="store_true", help=text)
            return
        several = isinstance(default, tuple)
        shown = " ".join(map(str, default)) if several else default
        self._parser.add_argument(
            name,
            type=kind or (Path if isinstance(default, Path) else type(default[0] if several else default)),
            nargs="+" if several else None,
            default=default,
            choices=None if choices is None else list(choices),
            help=text if default is None or isinstance(default, Path) else f"{text} (default: {shown})",
        )

    def recording(self) -> None:
        """Declare --data, a recording with its graph."""
        self._recording = True
        self.option("--data", SHARED / "metr-la.npz", "recording with its graph (default: metr-la.npz in STUNET_DATA)")

    def weeks(self, *names: str) -> None:
        """Say that the weeks of these names are needed, or declare --set to choose; ``options.weeks`` has them."""
        self._weeks = names
        if not names:
            self.option("--set", tuple(WEEKS), "which weeks", choices=WEEKS)

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Return the options; a recording that is needed and absent ends the program."""
        arguments = sys.argv[1:] if arguments is None else arguments
        if "--quick" in arguments:
            self._parser.set_defaults(**self._quick)
        options = self._parser.parse_args(arguments)
        needed = []
        if self._weeks is not None:
            options.weeks = [WEEKS[name] for name in self._weeks or options.set]
            if options.quick:
                small = options.out / "data"
                options.weeks = [replace(week, folder=small) for week in options.weeks]
                for week in options.weeks:
                    small_recording(week.file, first=6 * list(WEEKS).index(week.name))
            needed += [week.file for week in options.weeks]
        if self._recording:
            if options.quick and options.data == self._parser.get_default("data"):
                options.data = small_recording(options.out / "data" / "metr-la.npz")
            needed.append(options.data)
        missing = [path for path in needed if not path.is_file()]
        if missing and not options.page_only:
            self._parser.error(f"no file {missing[0]}; set STUNET_DATA to the folder of the recordings")
        options.command = f"python -m {self.module}{_named(arguments)}"
        return options

    def run(
        self,
        measure: Callable[[argparse.Namespace], dict[str, Any]],
        report: Callable[[dict[str, Any]], str],
        arguments: Sequence[str] | None = None,
    ) -> tuple[argparse.Namespace, dict[str, Any]]:
        """Measure, write the page and print it.

        Args:
            measure: returns from the options what was found.
            report: returns the page of what was found, which has the command and, in ``environment``, the machine.
            arguments: of the program; those of the process by default.

        Returns:
            The options, and what was found.
        """
        options = self.parse(arguments)
        if options.page_only:
            result = {"command": f"python -m {self.module}"} | stored(options.out / f"{self.page}.json")
        else:
            try:
                found = measure(options)
            except StunetError as error:
                self._parser.exit(error.exit_code, f"{error}\n")
            result = {"command": options.command, "environment": measured_on()} | found
        text = report(result)
        write_page(options.out, self.page, None if options.page_only else result, text)
        print(text)
        return options, result


def _named(arguments: Iterable[str]) -> str:
    """Return the arguments as a page names them: files without their folders, and without that of the results."""
    given = iter(arguments)
    kept = []
    for argument in given:
        if argument == "--out":
            next(given, None)
        else:
            kept.append(Path(argument).name if os.sep in argument else argument)
    return f" {shlex.join(kept)}" if kept else ""
