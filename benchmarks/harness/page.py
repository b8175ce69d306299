"""A result page: Markdown from rows and paragraphs, and the JSON behind it, each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from runtime.timing import environment, installed_version
from stunet_deploy.files import replacing

#: What a machine is described by, after its processor.
VERSIONS = ("python", "numpy", "torch", "onnxruntime")


def page(title: str, *blocks: str) -> str:
    """Return a page of paragraphs and tables; empty ones are left out."""
    return "\n\n".join([f"# {title}", *filter(None, blocks)]) + "\n"


def table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table of Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def number(value: float | None, form: str = ".2f") -> str:
    """Return a number as a cell; a dash where there is none."""
    return "–" if value is None else format(value, form)


def errors_cell(results: Sequence[Mapping[str, Any]]) -> str:
    """Return "15 / 30 / 60" of the MAE as a cell, each a mean over the runs with its standard deviation."""
    parts = []
    for minutes in sorted({one["horizon_minutes"] for one in results}):
        errors = [one["mae"] for one in results if one["horizon_minutes"] == minutes]
        spread = f" ±{stdev(errors):.2f}" if len(errors) > 1 else ""
        parts.append(f"{mean(errors):.2f}{spread}")
    return " / ".join(parts) or "–"


def milliseconds(microseconds: float | None, form: str = ".2f") -> str:
    """Return a time as a cell in milliseconds; a dash where there is none."""
    return number(None if microseconds is None else microseconds / 1000, form)


def measured_on(*distributions: str) -> dict[str, Any]:
    """Return what a measurement depends on: the machine, the commit, and versions, further distributions included."""
    return environment() | {name: installed_version(name) for name in ("torch", *distributions)}


def machine(where: Mapping[str, Any], *more: str) -> str:
    """Return the line that says on what was measured.

    Args:
        where: the environment.
        more: further distributions of it to name.
    """
    versions = [f"{name.capitalize() if name == 'python' else name} {where[name]}" for name in (*VERSIONS, *more)
                if where.get(name)]  # fmt: skip
    load = "" if where.get("load") is None else f", load {where['load']} at the end"
    return f"{where['cpu']}, {where['cores']} cores{load}; {', '.join(versions)}, commit {commit(where)}."


def commit(where: Mapping[str, Any]) -> str:
    """Return a commit as pages name it, with a plus where the checkout was changed since."""
    found = where["commit"] or "unknown"
    return f"{found[:12]}{found[40:]}"


def write_page(folder: Path, name: str, result: Mapping[str, Any] | None, text: str) -> None:
    """Write a page, and the JSON behind it where that is new."""
    if result is not None:
        write(folder / f"{name}.json", json.dumps(result, ensure_ascii=False) + "\n")
    write(folder / f"{name}.md", text)


def write(path: Path, content: str) -> None:
    """Write a file of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def stored(path: Path) -> dict[str, Any]:
    """Return what a file of JSON holds; nothing if there is no such file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
