"""The validation of a training: the error on the validation span, in the regime of the training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stunet_deploy.errors import DataError
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S
from training.evaluation import Predictor, Regime, Result, evaluate
from training.protocols import Split
from training.torch_predictor import TorchPredictor

#: The part of a validation from which its time is estimated.
PROBED = 1 / 16


@dataclass(frozen=True)
class Validation:
    """The windows that choose the best epoch.

    Attributes:
        series: the whole recording.
        split: scores the validation windows in place of the test's.
        regime: of the forecasts.
    """

    series: Series
    split: Split
    regime: Regime

    @classmethod
    def of(cls, series: Series, split: Split, regime: Regime) -> Validation:
        """Return the validation of a split, without the windows whose labels the test scores too.

        Raises:
            DataError: no window is left.
        """
        issue = split.validation[split.validation + split.horizon <= split.test[0]]
        if not len(issue):
            raise DataError(
                f"{len(split.validation)} validation windows, all of them with labels of the test",
                f"more than {split.horizon - 1}",
                "give a longer recording",
            )
        return cls(series, replace(split, test=issue, test_start=int(issue[0]) - split.window + 1), regime)

    def expected_seconds(self, model: Forecaster, clock: Callable[[], float]) -> float:
        """Return about how long :meth:`mae` takes, from a small part of it.

        Args:
            model: in any state of its training.
            clock: in seconds.
        """
        issue = self.split.test
        first = issue[: math.ceil(PROBED * len(issue))]
        began = clock()
        self._results(TorchPredictor(model.eval()), model.signal.targets, replace(self.split, test=first))
        # A stream steps through a warm-up before the first of the rows that are scored.
        before = 0 if self.regime == "window" else DAY_S // self.series.interval_s
        return (clock() - began) * (before + len(issue)) / (before + len(first))

    def mae(self, model: Forecaster) -> float:
        """Return the mean absolute error of a model, averaged over targets and scored horizons; see :meth:`error`."""
        return self.error(TorchPredictor(model.eval()), model.signal.targets)

    def error(self, predictor: Predictor, targets: Sequence[str]) -> float:
        """Return the mean absolute error of forecasts, averaged over targets and scored horizons.

        Args:
            predictor: of the recording's sensors.
            targets: that it forecasts.

        Raises:
            DataError: no label of the validation span was observed.
        """
        errors = [result.mae for result in self._results(predictor, targets, self.split) if result.count]
        if not errors:
            raise DataError(
                "a validation span without a reading", "readings to compare with", "give a longer recording"
            )
        mean = sum(errors) / len(errors)
        return mean if math.isfinite(mean) else math.inf  # NaN would compare as neither better nor worse

    def _results(self, predictor: Predictor, targets: Sequence[str], split: Split) -> list[Result]:
        return evaluate(self.series, split, [predictor], targets=targets, regimes=[self.regime])
