"""The one reader of configuration: dataclasses from parsed TOML or JSON, every key known and of its type."""

from __future__ import annotations

import collections.abc
import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from stunet_deploy.errors import ConfigError, shown

T = TypeVar("T")

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path, as text"}


def from_mapping(kind: type[T], data: object, *, where: str = "", folder: Path = Path()) -> T:
    """Return a config dataclass from a parsed TOML or JSON table.

    A field is a bool, int, float, str, :class:`~pathlib.Path`, Literal, Any or another dataclass; a tuple or mapping of
    these; one of these or None; or one of several dataclasses, told apart by their Literal ``kind``. The key of a field
    whose name ends in an underscore has none (``from_`` is read from ``from``).

    Args:
        kind: the dataclass; fields without a default are required.
        data: the table.
        where: its name in the file, for messages; empty for the file itself.
        folder: relative paths start here.

    Raises:
        ConfigError: naming the key with its table, if it is unknown, missing, of another type or out of range.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or 'the config'} = {shown(data)}", "a table", f"write it as {_header(where)}")
    hints = _hints(cast(Any, kind))
    keys = {field.name.rstrip("_"): field for field in fields(cast(Any, kind))}
    for key in data:
        if key not in keys:
            raise _unknown(where, str(key), list(keys))
    found = {}
    for key, field in keys.items():
        if key in data:
            found[field.name] = _read(hints[field.name], data[key], _join(where, key), folder)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise _missing(_join(where, key), hints[field.name])
    try:
        return kind(**found)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.came}" if where else error.came, error.expected, error.action) from error


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of a dataclass's fields; a list may hold a hundred thousand tables of one kind."""
    return get_type_hints(kind)


def choices(kind: type[Any], name: str) -> tuple[str, ...]:
    """Return the values that a Literal field of a dataclass may have, in the order of its declaration."""
    return get_args(get_type_hints(kind)[name])


def check_choices(config: Any) -> None:
    """Check the Literal fields of a dataclass that was built in Python, where nothing has read them.

    Raises:
        ConfigError: naming the field.
    """
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and (value := getattr(config, name)) not in get_args(hint):
            raise ConfigError(f"{name} = {value!r}", _expected(hint), f"correct {name} in the config file")


def _read(hint: Any, value: object, where: str, folder: Path) -> Any:
    """Return a value as its type."""
    origin, types = get_origin(hint), get_args(hint)
    if hint is Any or (value is None and NoneType in types):
        return value
    if origin in (Union, UnionType):
        inner = [one for one in types if one is not NoneType]
        return _read(inner[0] if len(inner) == 1 else _variant(inner, value, where), value, where, folder)
    if is_dataclass(hint):
        return from_mapping(cast(type[Any], hint), value, where=where, folder=folder)
    if origin is tuple and isinstance(value, list | tuple):
        if types[-1] is Ellipsis:
            types = types[:1] * len(value)
        if len(types) == len(value):
            entries = zip(types, value, range(1, len(value) + 1), strict=True)
            return tuple(_read(one, entry, _entry(where, number, entry), folder) for one, entry, number in entries)
    elif origin in (dict, collections.abc.Mapping) and isinstance(value, Mapping):
        named = {_read(types[0], key, f"a key of {where}", folder): key for key in value}
        return {name: _read(types[1], value[key], _join(where, key), folder) for name, key in named.items()}
    elif (origin is Literal and isinstance(value, str) and value in types) or (
        hint in (bool, int, str) and type(value) is hint  # a bool is an int to Python, but not to a reader of the file
    ):
        return value
    elif hint is Path and isinstance(value, str) and value:
        return folder / value
    elif hint is float and type(value) in (int, float) and abs(cast(float, value)) <= sys.float_info.max:
        return float(cast(float, value))
    action = f"write it as {_header(where, listed=True)}" if _is_listed_tables(hint) else "correct the value"
    raise ConfigError(f"{where} = {shown(value)}", _expected(hint), action)


def _variant(kinds: list[Any], value: object, where: str) -> Any:
    """Return the dataclass whose ``kind`` is that of a table."""
    named = {choices(one, "kind")[0]: one for one in kinds}
    kind = value.get("kind") if isinstance(value, Mapping) else value
    if not isinstance(kind, str) or kind not in named:
        raise ConfigError(f"{where}.kind = {shown(kind)}", f"one of {', '.join(named)}", "choose one of them")
    return named[kind]


def _unknown(where: str, key: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1)
    action = f"write {near[0]}" if near else "correct its name or leave it out"
    return ConfigError(f"unknown key {_join(where, key)}", f"keys among {', '.join(known)}", action)


def _missing(where: str, hint: Any) -> ConfigError:
    """Return the error of a key that is required and absent."""
    if _is_listed_tables(hint):
        header = _header(where, listed=True)
        return ConfigError(f"no {where}", f"one or more {header} tables", f"add a {header} table to the config file")
    if _expected(hint) == "a table":
        return ConfigError(f"no {where}", "a table", f"add a {_header(where)} table to the config file")
    return ConfigError(f"no {where}", _expected(hint), "add the key to the config file")


def _expected(hint: Any) -> str:
    """Return a type in the words of a message."""
    origin, types = get_origin(hint), [one for one in get_args(hint) if one is not NoneType]
    if origin is Literal:
        return "one of " + ", ".join(types)
    if origin is tuple and types[-1] is Ellipsis:
        return f"a list, each entry {_expected(types[0])}"
    if origin is tuple:
        return f"a list of {len(types)}: {', '.join(map(_expected, types))}"
    if origin in (Union, UnionType) and len(types) == 1:
        return _expected(types[0])
    return _NAMES.get(hint, "a table")


def _is_listed_tables(hint: Any) -> bool:
    """Return whether a type is a list of tables, which TOML writes with double brackets."""
    return get_origin(hint) is tuple and _expected(get_args(hint)[0]) == "a table"


def _header(where: str, *, listed: bool = False) -> str:
    """Return a table as TOML names it, without names of entries: ``[stream.source]`` of ``stream "ring".source``."""
    path = re.sub(r' (".*?"|\d+)(?=[. ]|$)', "", where) or "table"
    return f"[[{path}]]" if listed else f"[{path}]"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _entry(where: str, number: int, entry: object) -> str:
    """Return the name of an entry of a list in messages: its own where it has one, otherwise its number."""
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return f'{where} "{name}"' if isinstance(name, str) else f"{where} {number}"
