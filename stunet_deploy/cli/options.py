"""Options that several verbs share, declared once so that they are spelled alike."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from stunet_deploy.errors import ConfigError
from stunet_deploy.wording import exactly

if TYPE_CHECKING:
    from stunet_deploy.bundle import Bundle
    from stunet_deploy.series.facts import Facts


def add_data(parser: argparse.ArgumentParser, zone: str) -> None:
    """Declare ``--data`` and ``--timezone``; ``zone`` says which zone is the default."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="recording: npz, HDF5, CSV, Parquet or Excel, or a folder of such files, see docs/reference/data.md",
    )
    parser.add_argument("--timezone", metavar="IANA", help=f"zone of times without an offset (default: {zone})")


def add_facts(parser: argparse.ArgumentParser) -> None:
    """Declare what can be said of a recording that its file leaves unsaid; :func:`facts_of` reads it."""
    parser.add_argument(
        "--feature", metavar="NAME", help="what the readings are, if the file has one of a sensor and names none: flow"
    )
    parser.add_argument(
        "--unit",
        action="append",
        default=[],
        metavar="UNIT",
        help="unit of the readings, or of one feature as flow=veh/h, where the file tells none; may be given again",
    )
    parser.add_argument(
        "--no-data",
        action="append",
        type=_code,
        default=[],
        metavar="CODE",
        help="a number that stands for no reading, such as 2046 or, of one feature, speed=0; may be given again; the "
        "model keeps it",
    )


def facts_of(arguments: argparse.Namespace) -> Facts:
    """Return what the options of :func:`add_facts` say.

    Raises:
        ConfigError: two units of one feature.
    """
    from stunet_deploy.series.facts import Facts

    units, codes = dict[str, str](), dict[str, list[float]]()
    for entry in arguments.unit:
        name, _, unit = entry.rpartition("=")
        if name in units:
            raise ConfigError(
                f"--unit {' --unit '.join(arguments.unit)}",
                "one unit, or one for each feature as flow=veh/h",
                "write those of several features as --unit speed=km/h --unit flow=veh/h",
            )
        units[name] = unit
    for name, code in arguments.no_data:
        codes.setdefault(name, []).append(code)
    return Facts(arguments.feature or "", units, codes)


def given(arguments: argparse.Namespace) -> str:
    """Return what is said of a recording, its time zone included, as it is to be said to the next command."""
    codes = [f"{name}={exactly(code)}" if name else exactly(code) for name, code in arguments.no_data]
    words = {"--timezone": [arguments.timezone], "--feature": [arguments.feature], "--unit": arguments.unit}
    pairs = [(option, word) for option, said in (words | {"--no-data": codes}).items() for word in said if word]
    return "".join(f" {option} {shlex.quote(word)}" for option, word in pairs)


def _code(text: str) -> tuple[str, float]:
    from stunet_deploy.site import LARGEST_READING

    name, _, number = text.rpartition("=")
    try:
        code = float(number)
    except ValueError:
        code = math.nan
    if not abs(code) <= LARGEST_READING:
        raise argparse.ArgumentTypeError(f"{text}; expected a number, or one of a feature as speed=0")
    return name, code


def add_backend(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Declare ``--backend`` and ``--precision``; where a verb takes several of each, both are lists."""
    count = "+" if several else None
    parser.add_argument(
        "--backend",
        nargs=count,
        default=["onnxruntime"] if several else "onnxruntime",
        metavar="B",
        help="onnxruntime (default), onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, tensorrt-rtx "
        "or triton://host:port/model",
    )
    parser.add_argument(
        "--precision",
        nargs=count,
        default=["fp32"] if several else "fp32",
        metavar="P",
        help="fp32 (default), tf32, fp16, bf16 or int8, as it was exported",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare ``--trust``; :func:`open_bundle` obeys it."""
    parser.add_argument(
        "--trust",
        action="append",
        type=Path,
        default=[],
        metavar="KEY.pub",
        help="refuse a bundle that this public key has not signed, or that was altered since; may be given again, one "
        "of the keys is enough; needs [sign]",
    )


def trusted(trust: list[Path]) -> str:
    """Return the words of a command line that name the keys again."""
    return "".join(f" --trust {key}" for key in trust)


def open_bundle(path: Path, trust: list[Path]) -> Bundle:
    """Open a bundle, signed by one of the keys of ``--trust`` if there are any.

    Raises:
        StunetError: it cannot be opened, or is not signed as it has to be.
    """
    from stunet_deploy.bundle import Bundle

    if not trust:
        return Bundle.load(path)
    from stunet_deploy.signature import Trust

    return Bundle.load(path, trust=Trust.read(trust))


def minutes(text: str) -> float:
    """Read a positive number of minutes."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} minutes; expected a positive number")
    return number
