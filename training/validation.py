"""The validation of a training: the error on the validation span, in the regime of the training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stunet_deploy.errors import DataError
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.series.series import Series
from training.evaluation import Regime, evaluate
from training.protocols import Split
from training.torch_predictor import TorchPredictor


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

    def mae(self, model: Forecaster) -> float:
        """Return the mean absolute error of a model, averaged over targets and scored horizons.

        Raises:
            DataError: no label of the validation span was observed.
        """
        predictor, targets = TorchPredictor(model.eval()), model.signal.targets
        results = evaluate(self.series, self.split, [predictor], targets=targets, regimes=[self.regime])
        errors = [result.mae for result in results if result.count]
        if not errors:
            raise DataError(
                "a validation span without a reading", "readings to compare with", "give a longer recording"
            )
        mean = sum(errors) / len(errors)
        return mean if math.isfinite(mean) else math.inf  # NaN would compare as neither better nor worse
