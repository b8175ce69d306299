"""Errors that papers print for the full METR-LA and PeMSD7, as printed: none is measured here.

Those of ST-UNet are of Yu, Yin, Zhu: ST-UNet (2019), as are mean absolute errors of what it is compared with. HA and
FC-LSTM on METR-LA are of Li et al.: DCRNN (ICLR 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Published(NamedTuple):
    """Errors at 15, 30 and 60 minutes, with " / " between; a measure that is not known is empty.

    Attributes:
        mae: mean absolute error.
        mape: mean absolute percentage error.
        rmse: root mean squared error.
    """

    mae: str
    mape: str = ""
    rmse: str = ""

    def cells(self) -> list[str]:
        """Return "MAE / MAPE / RMSE" of each horizon."""
        measures = [measure.split(" / ") if measure else ["–"] * 3 for measure in self]
        return [" / ".join(at) for at in zip(*measures, strict=True)]


#: By set, then by model.
TABLES: Mapping[str, Mapping[str, Published]] = {
    "metr-la": {
        "HA": Published("4.16 / 4.16 / 4.16", "13.0 / 13.0 / 13.0", "7.80 / 7.80 / 7.80"),
        "LSVR": Published("2.97 / 3.64 / 4.67"),
        "ARIMA": Published("3.99 / 5.15 / 6.90"),
        "FNN": Published("3.99 / 4.23 / 4.49"),
        "FC-LSTM": Published("3.44 / 3.77 / 4.37", "9.6 / 10.9 / 13.2", "6.30 / 7.23 / 8.69"),
        "STGCN": Published("2.87 / 3.48 / 4.45"),
        "DCRNN": Published("2.77 / 3.15 / 3.60"),
        "ST-UNet": Published("2.72 / 3.12 / 3.55", "6.9 / 8.4 / 10.0", "5.13 / 6.16 / 7.40"),
    },
    "pemsd7-m": {
        "HA": Published("4.01 / 4.01 / 4.01"),
        "LSVR": Published("2.50 / 3.63 / 4.54"),
        "ARIMA": Published("5.55 / 5.86 / 6.83"),
        "FNN": Published("2.39 / 3.41 / 4.88"),
        "FC-LSTM": Published("3.67 / 3.87 / 4.19"),
        "STGCN": Published("2.25 / 3.03 / 4.02"),
        "DCRNN": Published("2.25 / 2.98 / 3.83"),
        "ST-UNet": Published("2.15 / 2.81 / 3.38", "5.06 / 6.79 / 8.33", "4.03 / 5.42 / 6.68"),
    },
    "pemsd7-l": {
        "HA": Published("4.60 / 4.60 / 4.60"),
        "GCGRU": Published("2.48 / 3.43 / 4.08"),
        "STGCN": Published("2.37 / 3.27 / 4.36"),
        "DCRNN": Published("2.41 / 3.28 / 4.32"),
        "ST-UNet": Published("2.34 / 3.02 / 3.66", "5.54 / 7.56 / 9.52", "4.32 / 5.81 / 7.14"),
    },
}
#: The paper's ablation on PeMSD7(M), without training tricks.
ABLATION: Mapping[str, Mapping[str, Published]] = {
    "pemsd7-m": {
        "GCGRU": Published("2.292 / 3.050 / 3.866"),
        "T-UNet": Published("2.266 / 3.004 / 3.850"),
        "S-UNet": Published("2.272 / 3.020 / 3.802"),
        "ST-UNet": Published("2.248 / 2.980 / 3.756"),
    }
}
