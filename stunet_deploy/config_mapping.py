"""Config dataclasses from parsed TOML or JSON; what does not fit is named."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import dacite

from stunet_deploy.errors import ConfigError

T = TypeVar("T")


def from_mapping(kind: type[T], data: Mapping[str, Any]) -> T:
    """Build a config dataclass from parsed TOML or JSON.

    Raises:
        ConfigError: for an unknown field, a wrong type or a value out of range.
    """
    settings = dacite.Config(strict=True, type_hooks={kind: functools.partial(_no_bool, kind) for kind in (int, float)})
    try:
        return dacite.from_dict(kind, _lists_to_tuples(data), settings)
    except dacite.UnexpectedDataError as error:
        unknown = ", ".join(sorted(map(str, error.keys)))
        known = ", ".join(_field_names(kind))
        raise ConfigError(f"unknown field {unknown}", f"fields of {known}", "correct the config") from error
    except dacite.MissingValueError as error:
        raise ConfigError(
            f"no {error.field_path}", f"a value for {error.field_path}", "add it to the config"
        ) from error
    except dacite.WrongTypeError as error:
        path = str(error.field_path)
        value = functools.reduce(operator.getitem, path.split("."), data)
        raise ConfigError(
            f"{path} = {value!r}", _type_name(error.field_type), f"correct {path} in the config"
        ) from error
    except (dacite.DaciteError, ValueError, TypeError) as error:
        raise ConfigError(f"a config that cannot be read ({error})", "the documented types", "correct it") from error


def _lists_to_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists_to_tuples(entry) for key, entry in value.items()}
    return tuple(_lists_to_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value


def _no_bool(kind: type[int] | type[float], value: Any) -> Any:
    if isinstance(value, bool):  # a number to Python, but not to somebody who writes a config
        raise dacite.WrongTypeError(kind, value)
    return float(value) if kind is float and isinstance(value, int) else value


def _field_names(kind: type[Any], prefix: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from _field_names(cast(type[Any], hint), f"{prefix}{name}.")
        else:
            yield prefix + name


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    return kind.__name__ if type(kind) is type else str(kind)
