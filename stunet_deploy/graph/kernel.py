"""Distances become weights, by the kernels of DCRNN and STGCN, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.graph.adjacency import Adjacency, check_cells, check_square, edge_arrays

DCRNN_THRESHOLD = 0.1
"""Weights below this are cut in the DCRNN kernel, whose scale is the spread of the listed distances."""
STGCN_SIGMA_METRES = 10_000 * math.sqrt(0.1)
"""Scale of the STGCN kernel: variance 0.1 with distances in units of 10 km."""
STGCN_THRESHOLD = 0.5
"""Weights below this are cut in the STGCN kernel."""

#: A distance this many times the next shorter one has no say in a scale, nor has any above it. In the public graphs
#: the longest distances have no gap above 4.1; one value below this cannot make all weights alike.
FAR_GAP = 5
#: Distances that must lie below such a gap: this share, and so many. Of fewer none is known to be the usual.
MOST_DISTANCES, FEW_DISTANCES = 0.75, 3
#: More neighbours a sensor than this, and a list is of pairs near and far: roads have 2 to 6, grids and lists of the
#: nearest 8, DCRNN's lists of pairs 45.
MOST_NEIGHBOURS = 12
#: So is one of a small network that lists this share of its pairs, where a sensor has more than a few of them.
MOST_PAIRS, FEW_NEIGHBOURS = 0.75, 4


class Scale(NamedTuple):
    """The scale sigma of a kernel."""

    sigma: float
    """In the unit of the distances."""
    of: Literal["standard deviation", "root mean square"]
    """What it is of the distances."""


def kernel_adjacency(
    distances: NDArray[np.float64], *, sigma: float | None = None, threshold: float = DCRNN_THRESHOLD
) -> NDArray[np.float64]:
    """Weights exp(-(d / sigma)^2) from distances, [node, node]; below the threshold 0, as is the diagonal.

    The defaults are DCRNN's kernel. STGCN's is ``sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD``.

    Args:
        distances: finite where listed, infinite where two sensors are not joined, [node, node]; may be
            directed.
        sigma: scale in the unit of the distances. Default: the standard deviation of all listed distances,
            the diagonal's included where listed, without those far above the others (`usual`). Where that would
            cut every weight (equally spaced sensors have no spread), their root mean square.
        threshold: weights below it are cut.

    Raises:
        DataError: the matrix is not square, or holds a distance that is negative or NaN; the cell is named.

    Source: Li et al., "DCRNN" (2018), section 4; Yu et al., "STGCN" (2018), Eq. (10).
    """
    check_square(distances, "distances")
    action = "leave out pairs of sensors that are not joined"
    check_cells(distances, distances >= 0, "distances", "distances of at least 0", action)
    listed = np.isfinite(distances)
    itself = np.eye(len(distances), dtype=np.bool_)[listed]
    if sigma is None:
        sigma = _scale(distances[listed], itself, threshold).sigma
    weights = np.zeros_like(distances)
    weights[listed] = _cut_kernel(distances[listed], itself, sigma, threshold)
    return weights


def usual(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which distances are not far above the others, as 999999 or one to a position of 0, 0 is, [edge].

    The first gap by a factor of `FAR_GAP` above most of the distances, zeros apart, parts them.
    """
    known = np.sort(distances[distances > 0])
    most = max(FEW_DISTANCES, math.ceil(MOST_DISTANCES * len(known)))
    gaps = np.flatnonzero(known[most:] > FAR_GAP * known[most - 1 : -1])
    return distances <= (known[most - 1 + gaps[0]] if len(gaps) else np.inf)


def _scale(distances: NDArray[np.float64], itself: NDArray[np.bool_], threshold: float) -> Scale:
    """Return the spread of usual distances, or their root mean square where the spread would cut every weight.

    Args:
        distances: those listed, [edge].
        itself: which of them are of a sensor to itself; they count in the spread, as in DCRNN.
        threshold: weights below it are cut.
    """
    near = usual(distances)
    distances, itself = distances[near], itself[near]
    spread = float(distances.std()) if distances.size else 0.0
    if spread and _cut_kernel(distances, itself, spread, threshold).any():
        return Scale(spread, "standard deviation")
    return root_mean_square(distances)


def root_mean_square(distances: NDArray[np.float64]) -> Scale:
    """Return the root mean square of distances, [edge], as a scale; 1 where there are none, or all are 0."""
    return Scale((float(np.sqrt(np.square(distances).mean())) if distances.size else 0.0) or 1.0, "root mean square")


def _cut_kernel(
    distances: NDArray[np.float64], itself: NDArray[np.bool_], sigma: float, threshold: float
) -> NDArray[np.float64]:
    weights = gauss(distances, sigma, threshold)
    weights[itself] = 0
    return weights


def gauss(distances: NDArray[np.float64], sigma: float, threshold: float) -> NDArray[np.float64]:
    """Return exp(-(d / sigma)^2) of distances of any shape; below the threshold 0."""
    weights = np.exp(-np.square(distances / sigma))
    weights[weights < threshold] = 0
    return weights


def are_neighbours(edges: Iterable[tuple[str, str, float]]) -> bool:
    """Return whether a list has neighbours alone, and not all pairs, or all up to some distance.

    Told by the number of sensors that a sensor is listed with, in either direction, see `MOST_NEIGHBOURS` and
    `MOST_PAIRS`.
    """
    pairs = {(min(source, target), max(source, target)) for source, target, _ in edges if source != target}
    sensors = len({sensor for pair in pairs for sensor in pair})
    each = 2 * len(pairs) / max(1, sensors)
    whole = each > FEW_NEIGHBOURS and each >= MOST_PAIRS * (sensors - 1)
    return each <= MOST_NEIGHBOURS and not whole


def adjacency_from_distances(
    sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]], *, neighbours: bool
) -> tuple[Adjacency, Scale]:
    """Directed graph of (from, to, distance) with the weights of DCRNN's kernel, and the kernel's scale.

    The shortest distance of a repeated edge counts. For the scale see `kernel_adjacency`.

    Args:
        sensor_ids: the nodes.
        edges: between them.
        neighbours: whether every edge joins neighbours. Then all of them stay, the far ones with the least weight
            that the kernel keeps, and the line from a sensor to itself that says it has none has no part in the scale.

    Raises:
        DataError: an edge names a sensor that is not in ``sensor_ids``.
    """
    source, target, distance = edge_arrays(sensor_ids, edges, np.minimum)
    itself = source == target
    if neighbours:
        alone = itself & ~np.isin(source, np.concatenate([source[~itself], target[~itself]]))
        source, target, distance, itself = (array[~alone] for array in (source, target, distance, itself))
    scale = _scale(distance, itself, DCRNN_THRESHOLD)
    weight = gauss(distance, scale.sigma, DCRNN_THRESHOLD)
    if neighbours:
        weight = np.maximum(weight, DCRNN_THRESHOLD)
    return Adjacency.from_edges(len(sensor_ids), source, target, weight), scale
