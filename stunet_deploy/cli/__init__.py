"""The program ``stunet``: one verb per job; the room behind a verb is imported when the verb runs."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import metadata

from stunet_deploy.cli import bench, build, data, demo, evaluate, export, inspect, run, search, sign, train, verify
from stunet_deploy.cli.console import Console
from stunet_deploy.errors import CheckFailed, StunetError

VERBS = (data, train, search, evaluate, export, build, sign, verify, run, bench, inspect, demo)
DISTRIBUTION = "stunet-deploy"
#: Exit codes beside 0 (done), 1 (a check failed) and 2 (user or environment error): 128 + the signal's number.
INTERRUPTED, READER_GONE = 130, 141
#: The extra that brings a package, named when the package is missing.
_EXPORT = ("onnx", "onnx_ir", "onnxscript", "ml_dtypes")
_TRAIN = ("torch", "scipy", "jaxtyping", "matplotlib", "rich", "tensorboard")
_SERVICE = ("paho", "prometheus_client", "tomli", "waitress")
_OTHERS = {
    "onnxruntime": "cpu",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "rtx",
    "cuda": "tensorrt",
    "pyarrow": "parquet",
    "optuna": "search",
}
EXTRAS = dict.fromkeys((*_EXPORT, *_TRAIN), "train") | dict.fromkeys(_SERVICE, "service") | _OTHERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``stunet`` and return its exit code."""
    _show_every_character()
    parser = argparse.ArgumentParser(
        prog="stunet",
        description="From a sensor graph and its history to a traffic forecast on the controller, every interval.",
        epilog="Try it: stunet demo. Each verb explains itself: stunet train --help",
    )
    parser.add_argument("--version", action="version", version=f"stunet {_version()}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        name = verb.__name__.rpartition(".")[2]
        _declare(verbs.add_parser(name, help=verb.HELP, description=verb.HELP, epilog=verb.EXAMPLE), verb.run)
        verb.add_arguments(verbs.choices[name])
    return _execute(parser.parse_args(arguments))


def export_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``stunet-export``, which is ``stunet export``, and return its exit code."""
    _show_every_character()
    parser = argparse.ArgumentParser(prog="stunet-export", description=export.HELP, epilog=export.EXAMPLE)
    _declare(parser, export.run)
    export.add_arguments(parser)
    return _execute(parser.parse_args(arguments))


def _show_every_character() -> None:
    """Let a terminal that has no µ or → show its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _declare(parser: argparse.ArgumentParser, function: object) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.set_defaults(function=function)


def _execute(arguments: argparse.Namespace) -> int:
    """Run the chosen verb; what a user can act on becomes three clauses and an exit code."""
    console = Console(arguments.json, sys.stdout, sys.stderr)
    try:
        # A library that prints must not spoil the answer.
        with redirect_stdout(console.err):
            code: int = arguments.function(arguments, console)
        console.out.flush()
        return code
    except StunetError as error:
        console.fail(error)
        return error.exit_code
    except CheckFailed as failed:
        console.say(f"failed: {failed}")
        return failed.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        console.fail(_missing(package))
    except BrokenPipeError:
        return _reader_gone(console)
    except OSError as error:
        name = error.filename or "a file"
        console.fail(StunetError(f"{name}: {error.strerror or error}", "access to it", "check the path and its rights"))
    except MemoryError as error:
        reason = " ".join(str(error).split())[:200]
        console.fail(
            StunetError(
                f"too little memory{f' ({reason})' if reason else ''}",
                "as much as the files of this command need",
                "cut the recording into parts of the network or shorter spans, or take a machine with more memory",
            )
        )
    except KeyboardInterrupt:
        console.say("interrupted")
        return INTERRUPTED
    return StunetError.exit_code


def _missing(package: str) -> StunetError:
    install = f"pip install '{DISTRIBUTION}[{EXTRAS[package]}]'"
    return StunetError(f"{package} is not installed", "what this verb needs", install)


def _reader_gone(console: Console) -> int:
    """Be quiet when the reader of a pipe has seen enough, also in the interpreter's last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), console.out.fileno())
    return READER_GONE


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"
