"""Tables of a config file as dataclasses: every key known and of its type, or an error that names it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from stunet_deploy.errors import ConfigError

T = TypeVar("T")

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path, as text"}


def read_table(kind: type[T], data: object, where: str, folder: Path) -> T:
    """Return a dataclass of a TOML table.

    A field is a bool, int, float, str, :class:`~pathlib.Path` (relative to ``folder``), a Literal, another dataclass, a
    tuple or a dict of these, or one of several dataclasses, told apart by their Literal ``kind``.

    Args:
        kind: the dataclass; fields without a default are required.
        data: the table.
        where: its name in the file, for messages; empty for the file itself.
        folder: what paths are relative to.

    Raises:
        ConfigError: naming the key, if it is unknown, missing, of another type or out of range.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} = {data!r}", "a table", f"write it as {_header(where)}")
    hints = get_type_hints(kind)
    for key in data:
        if key not in hints:
            raise ConfigError(
                f"unknown key {_join(where, key)}", f"keys among {sorted(hints)}", "correct its name or leave it out"
            )
    found = {}
    for field in fields(kind):  # type: ignore[arg-type]  # a type variable cannot be bound to dataclasses
        if field.name in data:
            found[field.name] = _read(hints[field.name], data[field.name], _join(where, field.name), folder)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise _missing(_join(where, field.name), hints[field.name])
    try:
        return kind(**found)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.came}" if where else error.came, error.expected, error.action) from error


def _read(hint: Any, value: object, where: str, folder: Path) -> Any:
    """Return a value as its type."""
    choices = [choice for choice in get_args(hint) if choice is not type(None)]
    origin = get_origin(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(choices[0], entry, _entry(where, n, entry), folder) for n, entry in enumerate(value, 1))
    if origin is dict and isinstance(value, Mapping):
        return {key: _read(choices[1], entry, _join(where, key), folder) for key, entry in value.items()}
    if origin is Literal and value in choices and isinstance(value, str):
        return value
    if origin not in (None, tuple, dict, Literal):  # a union
        if len(choices) == 1:
            return _read(choices[0], value, where, folder)
        return read_table(_variant(choices, value, where), value, where, folder)
    if is_dataclass(hint):
        return read_table(hint, value, where, folder)  # type: ignore[arg-type]  # is_dataclass is true of instances too
    if hint is Path and isinstance(value, str) and value:
        return folder / value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if hint in (bool, int, str) and type(value) is hint:
        return value
    action = f"write it as {_header(where, listed=True)}" if _is_listed_tables(hint) else "correct the value"
    raise ConfigError(f"{where} = {value!r}", _expected(hint), action)


def _variant(choices: list[Any], value: object, where: str) -> Any:
    """Return the dataclass whose ``kind`` is that of a table."""
    kinds = {get_args(get_type_hints(choice)["kind"])[0]: choice for choice in choices}
    kind = value.get("kind") if isinstance(value, Mapping) else value
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"{where}.kind = {kind!r}", f"one of {sorted(kinds)}", "choose one of them")
    return kinds[kind]


def _expected(hint: Any) -> str:
    choices = [choice for choice in get_args(hint) if choice is not type(None)]
    origin = get_origin(hint)
    if origin is Literal:
        return f"one of {list(choices)}"
    if origin is tuple:
        return f"a list, each entry {_expected(choices[0])}"
    if origin is not dict and len(choices) == 1:
        return _expected(choices[0])
    return _NAMES.get(hint, "a table")


def _missing(where: str, hint: Any) -> ConfigError:
    """Return the error of a key that is required and absent."""
    if _is_listed_tables(hint):
        header = _header(where, listed=True)
        return ConfigError(f"no {where}", f"one or more {header} tables", f"add a {header} table to the config file")
    if _expected(hint) == "a table":
        return ConfigError(f"no {where}", "a table", f"add a {_header(where)} table to the config file")
    return ConfigError(f"no {where}", _expected(hint), "add the key to the config file")


def _is_listed_tables(hint: Any) -> bool:
    """Return whether a type is a list of tables, which TOML writes with double brackets."""
    return get_origin(hint) is tuple and _expected(get_args(hint)[0]) == "a table"


def _header(where: str, *, listed: bool = False) -> str:
    """Return a table as TOML names it, without names of entries: ``[stream.source]`` of ``stream "ring".source``."""
    path = re.sub(r' (".*?"|\d+)(?=\.|$)', "", where)
    return f"[[{path}]]" if listed else f"[{path}]"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _entry(where: str, number: int, entry: object) -> str:
    """Return what to call an entry of a list: by its name where it has one."""
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return f'{where} "{name}"' if isinstance(name, str) else f"{where} {number}"
