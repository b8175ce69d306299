"""The output of a verb: its answer on standard output, everything else on standard error."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from stunet_deploy.errors import StunetError, in_lines, visible_json


@dataclass(frozen=True)
class Console:
    """Where a verb writes.

    Attributes:
        json: whether the answer is one JSON object instead of text.
        out: takes the answer and nothing else, so that a program can read it.
        err: takes progress, remarks and errors.
    """

    json: bool
    out: TextIO
    err: TextIO

    @classmethod
    def silent(cls) -> Console:
        """Return one that nobody reads."""
        return cls(False, io.StringIO(), io.StringIO())

    @property
    def interactive(self) -> bool:
        """Whether somebody watches the progress on a terminal."""
        return self.err.isatty()

    def say(self, *lines: str) -> None:
        """Write lines for people, each :func:`stunet_deploy.errors.visible`."""
        print(in_lines(lines), file=self.err, flush=True)

    def answer(self, data: Mapping[str, Any], text: str) -> None:
        """Write what the verb was asked for: ``data`` as one line of JSON, or ``text``.

        A line of the text that quotes what came from outside is :func:`stunet_deploy.errors.visible` already; all are
        made so here, but a line break in a name would no longer be seen.
        """
        if self.json:
            escaped = not (self.out.encoding or "utf-8").lower().startswith("utf")
            text = visible_json(json.dumps(data, ensure_ascii=escaped, allow_nan=False))
        print(in_lines(text.split("\n")), file=self.out, flush=True)

    def line(self, text: str, *, flush: bool) -> None:
        """Write one line of a running answer; ``flush`` where somebody waits for it."""
        print(text, file=self.out, flush=flush)

    def next(self, command: str) -> None:
        """Name the command that comes next."""
        self.say(f"next: {command}")

    def fail(self, error: StunetError) -> None:
        """Write an error as its three clauses."""
        self.say(f"error:    {error.came}", f"expected: {error.expected}", f"to do:    {error.action}")
