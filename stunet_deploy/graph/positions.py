"""A graph of sensors of which only the positions are known, and positions that cannot be meant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.kernel import DCRNN_THRESHOLD, gauss, root_mean_square, usual
from stunet_deploy.graph.sensor_graph import SensorGraph, named

EARTH_RADIUS_METRES = 6_371_008.8
"""Mean radius of the Earth (IUGG)."""
NEAREST_NEIGHBOURS = 8
"""Neighbours a sensor gets at least when only coordinates are known."""
#: Degrees around latitude 0, longitude 0 in which a network may have a sensor at 0, 0; elsewhere it means unknown.
_AROUND_ZERO = 3
#: Farther from its middle no network reaches; where the sensors are too few to say which is far, this tells.
_WIDEST_METRES = 3e6
_ROWS_AT_ONCE = 256


def graph_from_positions(
    sensor_ids: tuple[str, ...],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    source: str,
    others: str = "",
) -> SensorGraph:
    """Join sensors to their nearest neighbours; one without a position has none.

    A position is unknown where both degrees are NaN, or both are 0 and the network lies elsewhere.

    Args:
        sensor_ids: of the nodes.
        latitude: degrees north, [node].
        longitude: degrees east, [node].
        source: where they are from, for the graph's source and for messages.
        others: the end of the graph's source, see `left_out`.

    Raises:
        DataError: a coordinate is not on Earth or half known, or most positions are unknown.
    """
    _check_degrees(sensor_ids, latitude, longitude, source)
    known = _known(latitude, longitude)
    if 2 * np.count_nonzero(known) < len(known):
        raise DataError(
            f"{source}: {np.count_nonzero(~known)} of {len(known)} sensors without a position (empty, or 0, 0)",
            "positions of most sensors",
            "fill them in, or give the neighbours as from,to,distance",
        )
    latitude, longitude = np.where(known, latitude, np.nan), np.where(known, longitude, np.nan)
    places = np.flatnonzero(known)
    joined = adjacency_from_coordinates(latitude[places], longitude[places])
    adjacency = Adjacency.from_edges(len(known), places[joined.source], places[joined.target], joined.weight)
    notes = []
    if len(places) < len(known):
        unknown = [sensor for sensor, there in zip(sensor_ids, known, strict=True) if not there]
        notes.append(
            f"no position of {named(unknown)} (empty, or 0, 0): without neighbours; fill it in, or give "
            "the neighbours as from,to,distance"
        )
    notes += _remarks_on_far(sensor_ids, latitude, longitude, places)
    made = (
        f"{source}: positions of {len(places)} sensors, each joined to its {NEAREST_NEIGHBOURS} nearest"
        + (f"; {len(known) - len(places)} without a position" if len(places) < len(known) else "")
        + others
    )
    return SensorGraph(adjacency, sensor_ids, latitude, longitude, made, "positions", notes=tuple(notes))


def _check_degrees(
    sensor_ids: tuple[str, ...], latitude: NDArray[np.float64], longitude: NDArray[np.float64], source: str
) -> None:
    half = np.isnan(latitude) != np.isnan(longitude)
    if half.any():
        place = int(np.flatnonzero(half)[0])
        raise DataError(
            f"{source}: latitude {latitude[place]:g} and longitude {longitude[place]:g} of sensor {sensor_ids[place]}",
            "both, or neither where the position is unknown",
            "correct the cell",
        )
    for name, degrees, limit in (("latitude", latitude, 90), ("longitude", longitude, 180)):
        bad = np.flatnonzero(np.abs(degrees) > limit)
        if len(bad):
            more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
            exchanged = limit == 90 and (np.abs(latitude[bad]) <= 180).all() and (np.abs(longitude[bad]) <= 90).all()
            raise DataError(
                f"{source}: {name} {degrees[bad[0]]:g} of sensor {sensor_ids[bad[0]]}{more}",
                f"degrees from -{limit} to {limit}",
                "exchange latitude and longitude there"
                if exchanged
                else "give degrees in the order latitude, longitude, and no metres of a projection",
            )


def _known(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which positions are known, [node]."""
    known: NDArray[np.bool_] = ~np.isnan(latitude)
    zero = (latitude == 0) & (longitude == 0)
    others: NDArray[np.bool_] = known & ~zero
    if others.any() and max(abs(np.median(latitude[others])), abs(np.median(longitude[others]))) <= _AROUND_ZERO:
        return known
    return others


def _remarks_on_far(
    sensor_ids: tuple[str, ...],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    places: NDArray[np.int64],
) -> list[str]:
    """Name sensors far from all others, with the likely cause; NaN stands for an unknown position."""
    if not len(places):
        return []
    middle = float(np.median(latitude[places])), float(np.median(longitude[places]))

    def from_middle(north: NDArray[np.float64], east: NDArray[np.float64]) -> NDArray[np.float64]:
        return haversine_metres(np.append(middle[0], north), np.append(middle[1], east), slice(0, 1))[0, 1:]

    away = from_middle(latitude[places], longitude[places])
    near = usual(away)
    if near.all():
        near = away < _WIDEST_METRES
    if near.all() or 2 * np.count_nonzero(near) < len(near):  # or a network on both sides of 180 degrees
        return []
    far = places[~near]
    reach = float(away[near].max())
    one = int(far[0])
    exchanged = from_middle(longitude[far], latitude[far]) <= 2 * reach
    cause = (
        "latitude and longitude look exchanged"
        if exchanged.all()
        else "0 may stand for an unknown degree"
        if ((latitude[far] == 0) | (longitude[far] == 0)).all()
        else "a wrong sign or digit is likely"
    )
    return [
        f"far from all others: {named([sensor_ids[place] for place in far])} (sensor {sensor_ids[one]} at latitude "
        f"{latitude[one]:g}, longitude {longitude[one]:g}, {away[~near][0] / 1000:,.0f} km from the middle of the "
        f"network, the others up to {reach / 1000:,.0f} km); {cause}: correct the position, or leave it if it is right"
    ]


def haversine_metres(
    latitude: NDArray[np.float64], longitude: NDArray[np.float64], rows: slice = slice(None)
) -> NDArray[np.float64]:
    """Great-circle distances in metres between coordinates in degrees, [node] each.

    Args:
        latitude, longitude: of all nodes.
        rows: the nodes from which to measure, all by default.

    Returns:
        Distances [row, node].
    """
    phi, theta = np.radians(latitude), np.radians(longitude)
    half_phi = np.sin((phi[rows, None] - phi[None, :]) / 2)
    half_theta = np.sin((theta[rows, None] - theta[None, :]) / 2)
    chord = half_phi**2 + np.cos(phi)[rows, None] * np.cos(phi)[None, :] * half_theta**2
    distances: NDArray[np.float64] = 2 * EARTH_RADIUS_METRES * np.arcsin(np.sqrt(np.minimum(chord, 1)))
    return distances


def adjacency_from_coordinates(
    latitude: NDArray[np.float64], longitude: NDArray[np.float64], *, neighbours: int = NEAREST_NEIGHBOURS
) -> Adjacency:
    """Symmetric graph of sensors of which only the positions are known.

    Every sensor is joined to its nearest neighbours as the crow flies (ties: lowest index), in either
    direction. The weight is DCRNN's kernel at the root mean square of those distances, without any far above the
    others (`stunet_deploy.graph.kernel.usual`): with DCRNN's scale, their spread, the cut-off would take most
    neighbours away again, as they are about equally far.

    Args:
        latitude: degrees north, [node].
        longitude: degrees east, [node].
        neighbours: nearest neighbours per sensor.
    """
    nodes = len(latitude)
    nearest = np.empty((nodes, min(neighbours, nodes - 1)), dtype=np.int64)
    reach = np.empty(nearest.shape)
    for first in range(0, nodes, _ROWS_AT_ONCE):  # distances of all pairs would not fit for a large network
        rows = slice(first, min(nodes, first + _ROWS_AT_ONCE))
        distances = haversine_metres(latitude, longitude, rows)
        distances[np.arange(rows.stop - first), np.arange(first, rows.stop)] = np.inf
        nearest[rows] = np.argsort(distances, axis=1, kind="stable")[:, : nearest.shape[1]]
        reach[rows] = np.take_along_axis(distances, nearest[rows], axis=1)
    one, other = np.repeat(np.arange(nodes), nearest.shape[1]), nearest.flatten()
    keys, place = np.unique(np.concatenate([one * nodes + other, other * nodes + one]), return_index=True)
    listed = np.tile(reach.flatten(), 2)[place]
    weight = gauss(listed, root_mean_square(listed[usual(listed)]).sigma, DCRNN_THRESHOLD)
    return Adjacency.from_edges(nodes, keys // nodes, keys % nodes, weight)
