"""A real network of the size of PeMSD7(L): connected Caltrans stations, their typical weekday and seeded noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from benchmarks.harness.weeks import TIMEZONE
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.kernel import STGCN_SIGMA_METRES, STGCN_THRESHOLD, kernel_adjacency
from stunet_deploy.graph.positions import haversine_metres
from stunet_deploy.graph.sensor_graph import SensorGraph
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S
from stunet_deploy.site import Site

#: Stations and weekdays of PeMSD7(L).
STATIONS, DAYS = 1026, 44
INTERVAL_S = 300
#: The San Francisco Bay Area, the largest of the districts in the file.
DISTRICT = 4
#: Stations along a road are neighbours up to this gap.
LONGEST_GAP_MILES = 10.0
#: Spread of the noise in mph, and how much of it is left after an interval.
NOISE_MPH, NOISE_KEPT = 3.0, 0.9
FIRST_DAY = "2012-05-01"  # as PeMSD7


def network(path: Path, stations: int = STATIONS, days: int = DAYS, seed: int = 0) -> tuple[Series, SensorGraph]:
    """Return speeds of connected stations on so many weekdays, and their graph.

    Stations of the main carriageways with a speed at every hour. Weights are those of PeMSD7, STGCN's kernel of the
    distance, here as the crow flies; the next station along the road is joined in any case. The stations that are
    nearest to the middle of the network in edges are taken. Speeds are hourly medians of a typical weekday,
    interpolated, with noise of a lasting few intervals: for time and memory, not for accuracy.

    Args:
        path: pems-typical-weekday.npz.
        stations, days: how many.
        seed: of the noise.
    """
    with np.load(path, allow_pickle=False) as arrays:
        kept = np.flatnonzero(
            (arrays["district"] == DISTRICT) & (arrays["type"] == "ML") & np.isfinite(arrays["speed"]).all(axis=0)
        )
        ids, latitude, longitude, hourly, mile, route, direction = (
            arrays[key][..., kept]
            for key in ("station_ids", "latitude", "longitude", "speed", "abs_pm", "route", "direction")
        )
    weights = kernel_adjacency(
        haversine_metres(latitude, longitude), sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD
    )
    order = np.lexsort((mile, direction, route))
    before, after = order[:-1], order[1:]
    along = (route[before] == route[after]) & (direction[before] == direction[after])
    along &= mile[after] - mile[before] <= LONGEST_GAP_MILES
    for one, other in ((before[along], after[along]), (after[along], before[along])):
        weights[one, other] = np.maximum(weights[one, other], STGCN_THRESHOLD)
    chosen = connected(weights, np.stack([latitude, longitude], axis=1), stations)
    graph = Adjacency.from_matrix(weights[np.ix_(chosen, chosen)])
    names = tuple(ids[chosen].tolist())
    series = weekdays(hourly[:, chosen], names, days, seed)
    source = f"{path.name}: {len(chosen)} connected stations of district {DISTRICT}"
    return series, SensorGraph(graph, names, latitude[chosen], longitude[chosen], source)


def connected(weights: NDArray[np.float64], places: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return nodes of the largest connected part, the first from its middle on by number of edges, ascending.

    Args:
        weights: symmetric, [node, node].
        places: [node, axis].
        count: how many; all of the part if it has fewer.
    """
    joined = csr_matrix(weights)
    _, part = connected_components(joined, directed=False)
    largest = np.flatnonzero(part == np.bincount(part).argmax())
    middle = np.median(places[largest], axis=0)
    start = largest[np.square(places[largest] - middle).sum(axis=1).argmin()]
    reached = breadth_first_order(joined, start, directed=False, return_predecessors=False)
    return np.sort(reached[:count]).astype(np.int64)


def weekdays(hourly: NDArray[np.float32], ids: tuple[str, ...], days: int, seed: int) -> Series:
    """Return weekdays of noisy speeds [time, station, 1] from hourly ones [24, station] of a typical one."""
    per_day, rng = DAY_S // INTERVAL_S, np.random.default_rng(seed)
    hours = np.arange(per_day) * INTERVAL_S / 3600
    # An hourly median is taken for the middle of its hour; the day closes on itself.
    whole = np.concatenate([hourly[-1:], hourly, hourly[:1]])
    below = np.floor(hours + 0.5).astype(int)
    share = (hours + 0.5 - below)[:, None]
    typical = (1 - share) * whole[below] + share * whole[below + 1]
    shocks = rng.normal(0, NOISE_MPH * np.sqrt(1 - NOISE_KEPT**2), (days * per_day, len(ids)))
    noise = lfilter([1], [1, -NOISE_KEPT], shocks, axis=0)
    values = np.maximum(np.tile(typical, (days, 1)) + noise, 1)[..., None].astype(np.float32)
    midnights = np.busday_offset(np.datetime64(FIRST_DAY), np.arange(days)).astype("datetime64[s]").astype(np.int64)
    utc = midnights[:, None] + 7 * 3600 + INTERVAL_S * np.arange(per_day)  # of Pacific summer time
    site = Site(ids, ("speed",), ("mph",), INTERVAL_S, timezone=TIMEZONE)
    return Series(values, np.ones_like(values, dtype=np.bool_), utc.ravel(), site, "typical weekday with noise")
