"""The comparison models by name: what is fitted on a task and forecasts like any other predictor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.autoregression import arima, var
from benchmarks.peers.diffusion import DCRNN, GraphWaveNet, random_walks
from benchmarks.peers.linear import lsvr, ridge
from benchmarks.peers.loop import Loop
from benchmarks.peers.networks import FCLSTM, FNN, STGCN, STID
from benchmarks.peers.ours import preset, trained
from benchmarks.peers.task import Floats, Rows, Task
from stunet_deploy.config import VARIANTS, STUNetConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.graph.chebyshev import chebyshev_basis
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S
from training.baselines import damped_departure, historical_average, persistence, time_of_day_average
from training.evaluation import Predictor
from training.torch_predictor import TorchPredictor
from training.trees import TreeSettings, boosted_trees

Fit = Callable[[Task], Predictor]
#: Presets of this project's ST-UNet among the models.
OURS = ("small", "default", "best")


@dataclass(frozen=True)
class Model:
    """A comparison model.

    Attributes:
        title: in tables.
        fit: returns it fitted on the training span of a task.
        random: whether a seed changes it.
        loop: of a network, how it is trained.
    """

    title: str
    fit: Fit
    random: bool = True
    loop: Loop | None = None


def trees(task: Task) -> Predictor:
    """Fit boosted trees, see :func:`training.trees.boosted_trees`."""
    settings = TreeSettings(minutes=task.minutes, seed=task.seed, clock=task.clock)
    return boosted_trees(task.series, task.split, (task.target,), task.graph.adjacency, settings)


def stgcn(task: Task) -> STGCN:
    """Return an STGCN with Chebyshev polynomials of order 3."""
    basis = torch.from_numpy(chebyshev_basis(task.graph.adjacency.symmetrised(), 3).astype(np.float32))
    return STGCN(basis, task.split.window, task.split.horizon)


def walks(task: Task) -> Tensor:
    """Return the random walks on the graph, with an edge of every sensor to itself as in DCRNN's files."""
    return random_walks(task.graph.adjacency.dense() + np.eye(task.sensors))


def gcgru(task: Task) -> Recent:
    """Train the graph GRU of the ST-UNet paper's ablation, on the stream and with this project's training.

    One graph GRU of 32 channels, without pooling, skip, profile or perceptron. Source: Seo, Defferrard, Vandergheynst,
    Bresson: Structured Sequence Modeling with Graph Convolutional Recurrent Networks (2018), Eq. 11; Yu, Yin, Zhu:
    ST-UNet (2019), Table 3.
    """
    model = STUNetConfig(**VARIANTS["GCGRU"], hidden=32, lags=0, time_features="day")
    training = read_run_config(None, "stunet", "default").training
    return Recent(TorchPredictor(trained(model, training, task).model.eval()))


@dataclass(frozen=True)
class Recent:
    """A predictor that is given only the rows that its windows have: it copies the recording that it is given."""

    predictor: Predictor

    @property
    def name(self) -> str:
        """Name in the results."""
        return self.predictor.name

    def window(self, series: Series, issue: Rows, length: int) -> Iterator[Floats]:
        """Forecast at the issue rows from zero state."""
        first = int(issue[0]) - length + 1
        yield from self.predictor.window(series.rows(slice(first, int(issue[-1]) + 1)), issue - first, length)

    def stream(self, series: Series, start: int, issue: Rows) -> Iterator[Floats]:
        """Forecast with the state carried."""
        yield from self.predictor.stream(series, start, issue)


def _network(title: str, loop: Loop) -> Model:
    return Model(title, partial(loop, title), loop=loop)


MODELS: Mapping[str, Model] = {
    "persistence": Model("persistence", lambda task: persistence(task.series, task.split, (task.target,)), False),
    "historical-average": Model(
        "historical average", lambda task: historical_average(task.series, task.split, (task.target,)), False
    ),
    "usual-day": Model("usual day", lambda task: time_of_day_average(task.series, task.split, (task.target,)), False),
    "damped-departure": Model(
        "damped departure", lambda task: damped_departure(task.series, task.split, (task.target,)), False
    ),
    "arima": Model("ARIMA", arima, False),
    "var": Model("VAR", var, False),
    "lsvr": Model("LSVR", lsvr),
    "ridge": Model("ridge regression", ridge, False),
    "trees": Model("boosted trees", trees),
    "fnn": _network("FNN", Loop(lambda task: FNN(task.sensors, task.split.window, task.split.horizon))),
    "fc-lstm": _network("FC-LSTM", Loop(lambda task: FCLSTM(task.sensors, task.split.horizon))),
    "stgcn": _network("STGCN", Loop(stgcn)),
    "dcrnn": _network(
        "DCRNN", Loop(lambda task: DCRNN(walks(task), horizon=task.split.horizon), 2, rates=(1e-2, 3e-3))
    ),
    "gcgru": Model("GCGRU", gcgru),
    "stid": _network(
        "STID",
        Loop(
            lambda task: STID(task.sensors, task.split.window, task.split.horizon, DAY_S // task.series.interval_s),
            channels=3,
            weight_decay=1e-4,
        ),
    ),
    "graph-wavenet": _network(
        "Graph WaveNet",
        Loop(lambda task: GraphWaveNet(walks(task), horizon=task.split.horizon), 2, weight_decay=1e-4),
    ),
    **{name: Model(f"ST-UNet, preset {name}", partial(preset, name)) for name in OURS},
}
