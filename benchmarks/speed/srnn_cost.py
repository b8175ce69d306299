"""The step of a Structural-RNN against the size of its graph: does it cost as much as there are nodes and edges?

    python -m benchmarks.speed.srnn_cost [--nodes 50 100 200 500 1000 2000 5000] [--rounds 100]

Every graph is a ring in which each node sees the nearest four; the model has its default sizes and random weights, on
which time does not depend. Steps run by ONNX Runtime on one thread, the sizes in turn, so that a slow minute of the
machine meets all of them alike. Beside times stands what no machine can blur: multiplications, values made and bytes
of constants, counted in the step graph.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.harness.command import Command
from benchmarks.harness.networks import SPEED
from benchmarks.harness.page import machine, milliseconds, page, table
from benchmarks.harness.sessions import step_call
from benchmarks.speed.ways import microseconds
from export.cost import graph_cost
from export.step_graph import export_step
from runtime.timing import interleave
from stunet_deploy.config import SRNNConfig
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph

NODES = (50, 100, 200, 500, 1000, 2000, 5000)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = Command("benchmarks.speed.srnn_cost", __doc__)
    command.option("--nodes", NODES, "sizes of the graphs, three at least", quick=(20, 40, 10))
    command.option("--rounds", 100, "how often each is timed", quick=2)
    command.run(measure, report, arguments)


def ring(count: int) -> STGraph:
    """Return a ring of sensors, each with four neighbours."""
    nodes = tuple(Node(f"s{node}", "sensor", (node, node + 1)) for node in range(count))
    edges = tuple(Edge(f"s{n}", f"s{(n + step) % count}", "near") for n in range(count) for step in (1, 2))
    return STGraph(("sensor",), (EdgeType("near", ("sensor", "sensor"), mean=True),), nodes, edges, "ring")


def prepare(count: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return a call that takes a step on a ring, and what the step graph costs."""
    graph = ring(count)
    model = StructuralRNN(SRNNConfig(), graph, SPEED).eval()
    proto = export_step(model, {})
    cost = graph_cost(proto)
    counted = {name: getattr(cost, name) for name in ("multiplications", "values", "constant_bytes")}
    return step_call(proto, model.contract), {"nodes": count, "edges": len(graph.edges)} | counted


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return b of the least-squares fit cost = a · sizeᵇ: 1 where cost is linear."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure(options: Namespace) -> dict[str, Any]:
    """Time and count the steps of all sizes."""
    sizes = sorted(set(options.nodes))
    if len(sizes) < 3 or sizes[0] < 5:
        raise SystemExit("--nodes: name at least three sizes, each of at least 5 nodes")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    prepared = {str(count): prepare(count) for count in sizes}
    samples = interleave({name: call for name, (call, _) in prepared.items()}, options.rounds)
    raw = microseconds(samples)
    rows = [size | {"time": samples[name].summary(), "samples_us": raw[name]} for name, (_, size) in prepared.items()]
    totals = [row["nodes"] + row["edges"] for row in rows]
    fits = {f"{what} time": exponent(totals, [row["time"][f"{what}_us"] for row in rows]) for what in ("min", "median")}
    half = len(rows) // 2  # small steps cost mostly what every operator costs to start
    fits["min time of the larger half"] = exponent(totals[half:], [row["time"]["min_us"] for row in rows[half:]])
    fits |= {what: exponent(totals, [row[what] for row in rows]) for what in ("multiplications", "values")}
    return {"model": asdict(SRNNConfig()), "sizes": rows, "exponents": fits}


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    rows = []
    for row in result["sizes"]:
        total, time = row["nodes"] + row["edges"], row["time"]
        times = [milliseconds(time["min_us"]), milliseconds(time["median_us"]), f"{time['min_us'] / total:.2f}"]
        each = [f"{row[what] / total:,.0f}" for what in ("multiplications", "values")]
        rows.append([row["nodes"], row["edges"], *times, *each, f"{row['constant_bytes'] / 1000:,.0f}"])
    fits = ", ".join(f"{what.replace('_', ' ')} {power:.2f}" for what, power in result["exponents"].items())
    columns = ["nodes", "edges", "min ms", "median ms", "µs per node and edge (min)"]
    columns += ["multiplications per node and edge", "values per node and edge", "constants kB"]
    return page(
        "Cost of a Structural-RNN's step against the size of its graph",
        f"`{result['command']}`: rings of sensors with four neighbours each, default sizes, random weights; ONNX "
        "Runtime, one thread.",
        machine(result["environment"]),
        table(columns, rows),
        f"Exponents of cost against nodes + edges, by least squares over all sizes (1 is linear): {fits}.",
    )


if __name__ == "__main__":
    main()
