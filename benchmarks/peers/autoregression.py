"""The classical models of time series: ARIMA for each sensor alone, a vector autoregression of all."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from statsmodels.tools.sm_exceptions import ConvergenceWarning
from statsmodels.tsa.api import VAR
from statsmodels.tsa.arima.model import ARIMA

from benchmarks.peers.task import Floats, Forecast, Peer, Readings, Rows, Task, best

#: (p, d, q): the first is DCRNN's.
ORDERS = ((3, 0, 1), (2, 1, 1), (1, 0, 0))
#: Rows of the training span that an ARIMA is estimated on at most, the last ones.
ARIMA_ROWS = 4000
#: Rows from which the disturbances up to an issue row are computed; what was before has faded by then.
MEMORY = 64
VAR_LAGS = (1, 2, 3)


def arima(task: Task) -> Peer:
    """Fit an ARIMA(p, d, q) with constant for each sensor, by the estimator of Hannan and Rissanen.

    Where its result is not stationary or not invertible the likelihood is maximised instead. The order is one for all,
    chosen on the validation span. Source: Box, Jenkins, Reinsel: Time Series Analysis (2008), Eq. 4.1.3 and 5.1.1;
    Hannan, Rissanen: Recursive Estimation of Mixed Autoregressive-Moving Average Order (1982).
    """
    order, forecast = best(task, ORDERS, lambda order: _arima(task, *order))
    return Peer("ARIMA", task, forecast, {"order": order})


def _arima(task: Task, p: int, d: int, q: int) -> Forecast:
    """Return the forecast by models of one order."""
    rows = slice(max(task.split.train_rows.start, task.split.train_rows.stop - ARIMA_ROWS), task.split.train_rows.stop)
    training = np.diff(task.readings.values[rows].astype(np.float64), n=d, axis=0)
    mean = training.mean(axis=0) if d == 0 else np.zeros(task.sensors)
    ar, ma = np.zeros((task.sensors, p)), np.zeros((task.sensors, q))
    for node in range(task.sensors):
        if np.ptp(training[:, node]) > 0:
            ar[node], ma[node] = _estimated(training[:, node] - mean[node], p, q)
    horizon, reach = task.split.horizon, MEMORY + d

    def forecast(readings: Readings, issue: Rows) -> Floats:
        window = readings.windows(issue, reach).astype(np.float64)
        changes = np.diff(window, n=d, axis=1) - mean
        shocks = np.empty_like(changes)
        for node in range(task.sensors):
            shocks[..., node] = lfilter([1, *-ar[node]], [1, *ma[node]], changes[..., node], axis=1)
        shocks[:, : max(p, q)] = 0
        past = [changes[:, -lag] for lag in range(1, p + 1)]
        noise = [shocks[:, -lag] for lag in range(1, q + 1)]
        ahead = []
        for _ in range(horizon):
            step = sum((ar[:, lag] * past[lag] for lag in range(p)), np.zeros_like(changes[:, 0]))
            step = step + sum((ma[:, lag] * noise[lag] for lag in range(q)), 0.0)
            past, noise = [step, *past][:p], [np.zeros_like(step), *noise][:q]
            ahead.append(step + mean)
        found = np.stack(ahead, axis=1)
        return (found if d == 0 else window[:, -1:] + np.cumsum(found, axis=1)).astype(np.float32)

    return forecast


def _estimated(series: NDArray[np.float64], p: int, q: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coefficients of an ARMA without mean: [p] and [q]."""
    model = ARIMA(series, order=(p, 0, q), trend="n")
    try:
        found = model.fit(method="hannan_rissanen")
    except (ValueError, np.linalg.LinAlgError):  # not stationary or not invertible
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", UserWarning)  # of its starting values
            found = model.fit(method_kwargs={"maxiter": 50, "disp": 0})
    return np.asarray(found.arparams), np.asarray(found.maparams)


def var(task: Task) -> Peer:
    """Fit a vector autoregression of all sensors by least squares; its lags are chosen on the validation span.

    A sensor that never changes in the training span keeps its reading. Source: Hamilton: Time Series Analysis (1994),
    Eq. 11.1.1.
    """
    training = task.readings.values[task.split.train_rows].astype(np.float64)
    changing = np.flatnonzero(np.ptp(training, axis=0) > 0)

    def fit(lags: int) -> Forecast:
        found = VAR(training[:, changing]).fit(lags, trend="c")
        weights = np.concatenate(list(found.coefs), axis=1).T.astype(np.float32)  # [lag · node, node]
        offset = found.intercept.astype(np.float32)

        def forecast(readings: Readings, issue: Rows) -> Floats:
            window = readings.windows(issue, lags)
            whole = np.repeat(window[:, -1:], task.split.horizon, axis=1)
            past = [window[:, -lag][:, changing] for lag in range(1, lags + 1)]
            for ahead in range(task.split.horizon):
                step = np.concatenate(past, axis=1) @ weights + offset
                whole[:, ahead, changing] = step
                past = [step, *past][:lags]
            return whole

        return forecast

    possible = [lags for lags in VAR_LAGS if lags * (len(changing) + 1) < len(training)] or [1]
    lags, forecast = best(task, possible, fit)
    return Peer("VAR", task, forecast, {"lags": lags})
