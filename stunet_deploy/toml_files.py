"""TOML files, read whole or refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from stunet_deploy.errors import ConfigError
from stunet_deploy.files import read_file
from stunet_deploy.limits import LONGEST_TOML, MOST_DOTS


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = read_file(path, LONGEST_TOML).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} ({error})", "a TOML file", "check the path and the file") from error
    return parse_toml(text, f"config file {path}")


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parse TOML.

    Args:
        text: of a file.
        name: of the file, for messages.

    Raises:
        ConfigError: the text is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib  # novermin
    else:
        import tomli as tomllib
    try:
        if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
            raise ValueError(f"more than {MOST_DOTS} dots in a line")  # tables in tables take the square of their time
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers of too many digits, and of brackets within brackets
        raise ConfigError(f"{name} ({error})", "a TOML file", "check the path and the file") from error
