"""``stunet inspect --cost``: what a step costs on this machine, by node, and how far it is from the least time."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet_deploy.errors import ConfigError

if TYPE_CHECKING:
    from export.floor import StepCost

#: Rows of the table of nodes.
_HEAVIEST = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument(
        "--cost",
        action="store_true",
        help="for a bundle: operations and bytes of a step by node, and its time against this machine's ceilings",
    )


def answer(path: Path) -> tuple[dict[str, Any], str]:
    """Measure a bundle's step; return its cost as JSON and as text.

    Raises:
        ConfigError: for anything but a bundle.
        BundleError, BackendError: if it cannot be run.
    """
    from export.floor import measure_step
    from stunet_deploy.bundle import Bundle

    if path.is_file() or path.suffix == ".toml":
        raise ConfigError(f"--cost for {path}", "a bundle, whose step can be timed", "name the bundle's folder")
    found = measure_step(Bundle.load(path))
    return _data(found), _text(path, found)


def _data(found: StepCost) -> dict[str, Any]:
    cost, ceilings = found.cost, found.ceilings
    return {
        "graph": found.graph,
        "operations": cost.operations,
        "multiplications": cost.multiplications,
        "bytes": cost.bytes,
        "constant_bytes": cost.constant_bytes,
        "ceilings": {
            "operations_per_s": ceilings.operations,
            "product": list(ceilings.shape),
            "bytes_per_s": ceilings.bytes,
        },
        "floor_us": found.floor_us,
        "step": found.step.summary(),
        "share_of_floor": found.floor_us / found.fastest_us,
        "nodes": [
            {name: getattr(node, name) for name in ("name", "operator", "shapes", "operations", "bytes")}
            | {"floor_us": ceilings.node_us(node.operations, node.bytes)}
            for node in cost.nodes
        ],
    }


def _text(path: Path, found: StepCost) -> str:
    cost, ceilings = found.cost, found.ceilings
    least = {node: ceilings.node_us(node.operations, node.bytes) for node in cost.nodes}
    by_operator: dict[str, list[float]] = defaultdict(list)
    for node, floor in least.items():
        by_operator[node.operator].append(floor)
    shares = sorted(((sum(floors), len(floors), name) for name, floors in by_operator.items()), reverse=True)
    heaviest = sorted(cost.nodes, key=lambda node: -least[node])[:_HEAVIEST]
    lines = [
        f"{path.name}: {found.graph}, {len(cost.nodes)} nodes, one thread",
        f"needs      {cost.operations / 1e6:.1f} million operations, {2 * cost.multiplications / 1e6:.1f} of them in "
        f"matrix products; {cost.bytes / 1e6:.1f} MB moved, {cost.constant_bytes / 1e6:.1f} MB of constants",
        f"ceilings   {ceilings.operations / 1e9:.1f} Gflop/s in a product of {'×'.join(map(str, ceilings.shape))}, "
        f"{ceilings.bytes / 1e9:.1f} GB/s in a copy",
        f"floor      {found.floor_us:.0f} µs; the fastest step took {found.fastest_us:.0f} µs, the median "
        f"{found.step.median_us:.0f} µs: {found.floor_us / found.fastest_us:.0%} of what the machine can do",
        f"by kind    {', '.join(f'{name} {total:.0f} µs in {count}' for total, count, name in shares[:6])}",
        "",
        f"{'least µs':>8} {'Mflop':>7} {'kB':>7}  heaviest nodes",
        *(
            f"{least[node]:8.1f} {node.operations / 1e6:7.2f} {node.bytes / 1e3:7.0f}  {node.operator} {node.shapes}"
            for node in heaviest
        ),
    ]
    return "\n".join(lines)
