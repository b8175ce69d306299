"""The output of a verb: its answer on standard output, everything else on standard error."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from stunet_deploy.errors import StunetError


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

    def say(self, text: str) -> None:
        """Write a line for people."""
        print(text, file=self.err, flush=True)

    def answer(self, data: Mapping[str, Any], text: str) -> None:
        """Write what the verb was asked for: ``data`` as one line of JSON, or ``text``."""
        if self.json:
            escaped = not (self.out.encoding or "utf-8").lower().startswith("utf")
            text = json.dumps(data, ensure_ascii=escaped, allow_nan=False)
        print(text, file=self.out, flush=True)

    def line(self, text: str, *, flush: bool) -> None:
        """Write one line of a running answer; ``flush`` where somebody waits for it."""
        print(text, file=self.out, flush=flush)

    def next(self, command: str) -> None:
        """Name the command that comes next."""
        self.say(f"next: {command}")

    def fail(self, error: StunetError) -> None:
        """Write an error as its three clauses."""
        self.say(f"error:    {error.came}\nexpected: {error.expected}\nto do:    {error.action}")
