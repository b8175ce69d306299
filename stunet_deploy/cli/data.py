"""``stunet data inspect``: what a data file holds, what is missing, and a picture of it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_facts, facts_of, given
from stunet_deploy.errors import ConfigError, DataError, in_lines

if TYPE_CHECKING:
    from stunet_deploy.data_files import DataFile

HELP = "Look at data files before a training."
EXAMPLE = "example: stunet data inspect metr-la.h5 --graph adj_mx.pkl --plot metr-la.png"
INSPECT_HELP = "Say in plain words what a recording or a graph holds and what is missing, and draw it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's actions and their arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    inspect = actions.add_parser("inspect", help=INSPECT_HELP, description=INSPECT_HELP, epilog=EXAMPLE)
    inspect.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="recording or graph, or a folder of recordings, see docs/reference/data.md",
    )
    inspect.add_argument("--graph", type=Path, metavar="FILE", help="graph of the recording: do they fit together?")
    inspect.add_argument(
        "--timezone", metavar="IANA", help="zone of times without an offset (default: the file's own, otherwise UTC)"
    )
    add_facts(inspect)
    inspect.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw it")
    # Suppressed, so that it does not undo a --json in front of the action.
    inspect.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object on standard output"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Describe a file, with its graph if there is one."""
    from stunet_deploy.data_files import read_data_file
    from stunet_deploy.series.facts import Facts

    path: Path = arguments.file
    if arguments.plot is not None:
        _check_plot(arguments.plot)
    found = read_data_file(path, timezone=arguments.timezone, facts=facts_of(arguments), beside=arguments.graph is None)
    if found.series is None and facts_of(arguments) != Facts():
        raise ConfigError(
            f"--feature, --unit or --no-data for {path.name}, which holds {found.kind}", "a recording", "leave them out"
        )
    if arguments.graph is not None:
        found = _with_graph(found, path, arguments.graph)
    data, lines = _describe(found, path)
    if arguments.plot is not None:
        _draw(found, path, arguments.plot)
        data["plot"] = str(arguments.plot)
        lines.append(f"drawn      {arguments.plot}")
    console.answer(data, in_lines(lines))
    if (command := _next_command(found, arguments)) is not None:
        console.next(command)
    return 0


def _with_graph(found: DataFile, path: Path, graph_path: Path) -> DataFile:
    from dataclasses import replace

    from stunet_deploy.graph.files import read_graph

    if found.series is None:
        raise DataError(
            f"{path.name}, which holds {found.kind}, with --graph {graph_path.name}",
            "a recording, whose graph --graph is",
            f"stunet data inspect {shlex.quote(str(graph_path))} describes the graph alone",
        )
    return replace(found, kind="recording with graph", graph=read_graph(graph_path, found.series.sensor_ids))


def _describe(found: DataFile, path: Path) -> tuple[dict[str, Any], list[str]]:
    """The answer as JSON and as lines."""
    from stunet_deploy.graph.description import describe_graph, explain_graph, remark_on_graph
    from stunet_deploy.series.description import describe_series, explain_series
    from stunet_deploy.series.remarks import Remark, ordered, remark_on_series, verdict

    series = None if found.series is None else describe_series(found.series)
    graph = None if found.graph is None else describe_graph(found.graph)
    lines = [f"{path.resolve().name}: {found.kind}"]
    remarks: list[Remark] = []
    if series is not None:
        lines += explain_series(series)
        remarks += remark_on_series(series)
    if graph is not None:
        lines += explain_graph(graph)
        remarks += [Remark("costs", text) for text in remark_on_graph(graph)]
    if found.note:
        lines.append(found.note)
    elif series is None:
        lines.append("recording  none in this file")
    elif graph is None:
        coordinates = "; neighbours can be made of the coordinates" if series["coordinates"] else ""
        lines.append(f"graph      none in this file{coordinates}")
    remarks = ordered(remarks)
    data: dict[str, Any] = {"file": str(path), "kind": found.kind, "series": series, "graph": graph}
    data["remarks"] = [remark.text for remark in remarks]
    if series is not None:
        data["verdict"], sentence = verdict(remarks)
        lines.append(f"verdict    {sentence}")
    lines += [f"look at    {remark.text}" for remark in remarks]
    return data | ({"note": found.note} if found.note else {}), lines


def _next_command(found: DataFile, arguments: argparse.Namespace) -> str | None:
    file = shlex.quote(str(arguments.file))
    said = given(arguments)
    if found.series is None:
        return None if found.graph is None else f"stunet data inspect RECORDING --graph {file}"
    if found.graph is None and found.series.latitude is None:
        return f"stunet data inspect {file} --graph GRAPH{said}"
    graph = f" --graph {shlex.quote(str(arguments.graph))}" if arguments.graph else ""
    return f"stunet train --data {file}{graph}{said} --out model.pt"


def _check_plot(plot: Path) -> None:
    if plot.suffix.lower() != ".png" or plot.is_dir() or not plot.parent.is_dir():
        raise ConfigError(f"--plot {plot}", "a .png file in an existing folder", "choose another --plot")


def _draw(found: DataFile, path: Path, plot: Path) -> None:
    if found.series is None and found.graph is None:
        raise ConfigError(f"--plot for {path.name}, which holds {found.kind}", "a recording or a graph", "leave it out")
    from stunet_deploy.cli.pictures.data import draw_data
    from stunet_deploy.cli.pictures.forecasts import save_png

    save_png(draw_data(found, path.name), plot)
