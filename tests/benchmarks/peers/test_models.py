"""Every comparison model: what it may look at, and the equations that it follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from statsmodels.tsa.api import VAR
from statsmodels.tsa.arima.model import ARIMA

from benchmarks.peers import autoregression
from benchmarks.peers.autoregression import arima, var
from benchmarks.peers.linear import lsvr, ridge
from benchmarks.peers.loop import Loop
from benchmarks.peers.models import MODELS, gcgru
from benchmarks.peers.networks import FCLSTM, FNN, STGCN, STID, GatedConvolution, STConvolution
from benchmarks.peers.task import Task
from stunet_deploy.errors import ConfigError
from training.baselines import historical_average
from training.evaluation import Predictor, evaluate

MakeTask = Callable[..., Task]
#: The others of the table have tests of their own beside them in `training`.
NETWORKS = ("fnn", "fc-lstm", "stgcn", "dcrnn", "gcgru", "stid", "graph-wavenet", "small")
FITTED = ("arima", "var", "lsvr", "ridge", *NETWORKS)


def forecast(predictor: Predictor, task: Task, issue: np.ndarray) -> np.ndarray:
    return np.concatenate(list(predictor.window(task.series, issue, task.split.window)))


@pytest.mark.parametrize("name", FITTED)
def test_a_model_forecasts_what_is_scored_and_does_not_look_ahead(
    name: str, make_task: MakeTask, shapes_unchecked: None
) -> None:
    torch.set_num_threads(1)
    task = make_task(100, minutes=0.05, epochs=1)
    predictor = MODELS[name].fit(task)
    row = int(task.split.test[3])
    issue = np.array([row])
    before = forecast(predictor, task, issue)
    values, observed = task.series.values.copy(), task.series.observed.copy()
    values[row + 1 :], observed[row + 1 :] = 99, ~observed[row + 1 :]
    changed = replace(task, series=replace(task.series, values=values, observed=observed))

    assert isinstance(predictor, Predictor)
    assert before.shape == (1, 3, 4, 1)
    assert np.isfinite(before).all()
    assert 20 < before.min() <= before.max() < 90
    np.testing.assert_array_equal(forecast(predictor, changed, issue), before)
    values[row - 1 :] += 5
    assert (forecast(predictor, replace(changed, series=replace(task.series, values=values)), issue) != before).any()


def test_a_graph_gru_is_given_no_more_rows_than_its_windows_have(make_task: MakeTask, shapes_unchecked: None) -> None:
    task = make_task(100, minutes=0.05, epochs=1)
    predictor = gcgru(task)

    issue = task.split.test[2:9:3]
    (expected,) = predictor.predictor.window(task.series, issue, task.split.window)
    np.testing.assert_array_equal(forecast(predictor, task, issue), expected)


@pytest.mark.parametrize("fit", [ridge, lsvr, arima, var])
def test_a_classical_model_knows_that_disturbances_fade(fit: Callable[[Task], Predictor], make_task: MakeTask) -> None:
    task = make_task(missing=0.0)
    mean, hour_ahead = (
        np.mean([one.mae for one in evaluate(task.series, task.split, [predictor], regimes=("stream",))])
        for predictor in (historical_average(task.series, task.split), fit(task))
    )

    assert hour_ahead < 0.95 * mean


def test_an_arima_forecasts_as_the_library_does(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(missing=0.0)
    row, node = int(task.split.test[-1]), 1
    values = task.readings.values.astype(np.float64)
    for order in ((3, 0, 1), (2, 1, 1)):
        monkeypatch.setattr(autoregression, "ORDERS", (order,))
        found = arima(task).forecast(task.readings, np.array([row]))[0, :, node]

        p, d, q = order
        training = np.diff(values[task.split.train_rows, node], n=d)
        mean = training.mean() if d == 0 else 0.0
        fitted = ARIMA(training - mean, order=(p, 0, q), trend="n").fit(method="hannan_rissanen")
        whole = np.diff(values[: row + 1, node], n=d) - mean
        ahead = ARIMA(whole, order=(p, 0, q), trend="n").filter(fitted.params).forecast(3) + mean
        expected = ahead if d == 0 else values[row, node] + np.cumsum(ahead)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_vector_autoregression_forecasts_as_the_library_does(make_task: MakeTask) -> None:
    task = make_task()
    constant = task.series.values.copy()
    constant[:, 2], task.series.observed[:, 2] = 7, True  # a sensor that never changes
    task = replace(task, series=replace(task.series, values=constant))
    values, row = task.readings.values.astype(np.float64), int(task.split.test[5])
    changing = [0, 1, 3]

    peer = var(task)
    found = peer.forecast(task.readings, np.array([row]))[0]

    fit = VAR(values[task.split.train_rows][:, changing]).fit(peer.chosen["lags"])
    expected = fit.forecast(values[row - 3 : row + 1, changing], 3)
    np.testing.assert_allclose(found[:, changing], expected, rtol=1e-4, atol=1e-4)
    assert (found[:, 2] == values[row, 2].astype(np.float32)).all()


@pytest.mark.parametrize("name", ["FNN", "FC-LSTM", "STGCN", "STID"])
def test_a_network_reads_its_whole_window_and_no_other(name: str) -> None:
    torch.manual_seed(0)
    networks = {
        "FNN": lambda: FNN(5, 12, 4),
        "FC-LSTM": lambda: FCLSTM(5, 4),
        "STGCN": lambda: STGCN(torch.randn(2, 5, 5), 12, 4),
        "STID": lambda: STID(5, 12, 4, slots=24),
    }
    window = torch.rand(2, 12, 5, 3 if name == "STID" else 1, requires_grad=True)

    out = networks[name]().eval()(window)

    assert out.shape == (2, 4, 5, 1)
    (gradient,) = torch.autograd.grad(out[0].sum(), window)
    assert (gradient[0, ..., 0].abs().amax(dim=1) > 0).all()
    assert gradient[1].abs().max() == 0


def test_a_gated_convolution_is_the_papers_product() -> None:
    torch.manual_seed(0)
    layer, x = GatedConvolution(3, 3, 2), torch.randn(2, 3, 5, 4)

    weight, bias = layer.both.weight[..., 0], layer.both.bias
    terms = torch.einsum("oik,bitnk->botn", weight, torch.stack([x[:, :, :-1], x[:, :, 1:]], dim=-1))
    linear, gate = (terms + bias[:, None, None]).chunk(2, dim=1)
    torch.testing.assert_close(layer(x), (linear + x[:, :, 1:]) * torch.sigmoid(gate))


def test_a_graph_convolution_sums_the_polynomials_of_the_basis() -> None:
    torch.manual_seed(0)
    basis = torch.randn(2, 4, 4)
    block = STConvolution(basis, 1, (3, 3, 3), kernel=2, dropout=0.0)
    x = torch.randn(1, 1, 5, 4)
    before = block.before(x).permute(0, 2, 3, 1)

    terms = [matrix @ before for matrix in (torch.eye(4), *basis)]
    weights = block.spread.weight.split(3, dim=1)
    spread = sum(term @ weight.T for term, weight in zip(terms, weights, strict=True)) + block.spread.bias
    after = block.after(torch.relu(spread + block.align(before)).permute(0, 3, 1, 2))
    torch.testing.assert_close(block(x), block.norm(after.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_stid_tells_sensors_times_and_days_apart() -> None:
    torch.manual_seed(0)
    network = STID(2, 12, 1, slots=24).eval()
    window = torch.zeros(3, 12, 2, 3)
    window[1, :, :, 1] = 23 / 24
    window[2, :, :, 2] = 6

    out = network(window)[:, 0, :, 0]

    assert len(set(out.flatten().tolist())) == 6
    torch.testing.assert_close(out[1:2], network(window[1:2])[:, 0, :, 0])


def test_a_window_that_is_too_short_for_stgcn_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 9"):
        STGCN(torch.zeros(2, 4, 4), window=8, horizon=3)


def test_the_loop_learns_keeps_the_best_epoch_and_ends_in_time(make_task: MakeTask) -> None:
    ticks = iter(range(10**9))
    task = make_task(minutes=1.0, epochs=30, clock=lambda: float(next(ticks)))
    loop = Loop(lambda task: FNN(task.sensors, 12, 3, units=16), rates=(1e-2,))

    untrained, trained = loop.train(task, 1e-2, 0.5), loop("FNN", task)

    assert task.error(trained.forecast) < 0.9 * task.error(untrained)
    assert next(ticks) < 2 * 60 + 10  # one tick a question: the limit of 60 s was kept
    again = loop("FNN", replace(task, clock=lambda: 0.0))
    twice = loop("FNN", replace(task, clock=lambda: 0.0))
    np.testing.assert_array_equal(*(one.forecast(task.readings, task.split.test[:2]) for one in (again, twice)))


def test_the_loop_takes_the_learning_rate_that_validates_best(make_task: MakeTask) -> None:
    task = make_task(epochs=3, clock=lambda: 0.0)
    build = lambda task: FNN(task.sensors, 12, 3, units=16)  # noqa: E731

    chosen = Loop(build, rates=(1e-9, 1e-2))("FNN", task)
    alone = Loop(build, rates=(1e-2,))("FNN", task)

    assert chosen.chosen == {"learning_rate": 1e-2}
    np.testing.assert_array_equal(*(one.forecast(task.readings, task.split.test[:2]) for one in (chosen, alone)))
