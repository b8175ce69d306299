"""Linear models of a sensor alone: ridge regression and support vector regression."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVR

from benchmarks.peers.task import Floats, Forecast, Peer, Readings, Rows, Task, best

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
COSTS = (0.01, 0.1, 1.0)
#: Windows of a support vector regression, at random among all sensors, and passes over them: it is slow.
SVR_ROWS, SVR_PASSES = 20_000, 300


def ridge(task: Task) -> Peer:
    """Fit a ridge regression for each sensor and scored horizon: of its last readings and its usual one at the horizon.

    The penalty is one for all, chosen on the validation span. Source: Hoerl, Kennard: Ridge Regression (1970), Eq. 2.1.
    """
    windows, usual = task.readings.windows(task.split.train, task.split.window), task.readings.usual
    labels, observed = task.labels(task.split.train)

    def fit(penalty: float) -> Forecast:
        weights = np.full((task.split.horizon, task.sensors, task.split.window + 2), np.nan, np.float32)
        for ahead in task.horizons:
            regressors = np.concatenate([windows, usual[task.split.train + ahead, None]], axis=1)
            for node in range(task.sensors):
                seen = observed[:, ahead - 1, node]
                weights[ahead - 1, node] = 0  # without labels: the mean of all
                if seen.any():
                    one = Ridge(penalty).fit(regressors[seen, :, node], labels[seen, ahead - 1, node])
                    weights[ahead - 1, node] = [*one.coef_, one.intercept_]
        return _linear(weights)

    penalty, forecast = best(task, PENALTIES, fit)
    return Peer("ridge", task, forecast, {"penalty": penalty})


def lsvr(task: Task) -> Peer:
    """Fit a linear support vector regression for each scored horizon, one for all sensors, with the absolute loss.

    The cost is chosen on the validation span. Source: Drucker, Burges, Kaufman, Smola, Vapnik: Support Vector
    Regression Machines (1997), section 2, without a tube; the "LSVR" of STGCN's tables.
    """
    generator = np.random.default_rng(task.seed)
    labels, observed = task.labels(task.split.train)

    def fit(cost: float) -> Forecast:
        weights = np.full((task.split.horizon, 1, task.split.window + 2), np.nan, np.float32)
        for ahead in task.horizons:
            issue, nodes = np.nonzero(observed[:, ahead - 1])
            kept = generator.permutation(len(issue))[:SVR_ROWS]
            issue, nodes = issue[kept], nodes[kept]
            rows = task.split.train[issue, None] + np.arange(1 - task.split.window, 1)
            one = LinearSVR(C=cost, max_iter=SVR_PASSES, random_state=task.seed)
            with warnings.catch_warnings():  # what the solver has by then is judged by its error
                warnings.simplefilter("ignore", ConvergenceWarning)
                one.fit(task.readings.values[rows, nodes[:, None]], labels[issue, ahead - 1, nodes])
            weights[ahead - 1, 0] = [*one.coef_, 0, *np.ravel(one.intercept_)]
        return _linear(weights)

    cost, forecast = best(task, COSTS, fit)
    return Peer("LSVR", task, forecast, {"cost": cost})


def _linear(weights: Floats) -> Forecast:
    """Return the forecast by slopes of a window and the usual reading, and an offset, [horizon, node, window + 2]."""
    usual, offset = weights[..., -2], weights[..., -1]
    slopes = np.ascontiguousarray(weights[..., :-2].transpose(1, 2, 0))  # [node, window, horizon]
    ahead = np.arange(1, len(weights) + 1)

    def forecast(readings: Readings, issue: Rows) -> Floats:
        windows = readings.windows(issue, slopes.shape[1]).transpose(2, 0, 1)  # [node, issue, window]
        known = (windows @ slopes).transpose(1, 2, 0) + offset
        return np.asarray(known + usual * readings.usual[issue[:, None] + ahead] if usual.any() else known)

    return forecast
