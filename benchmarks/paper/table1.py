"""Table 1 of the ST-UNet paper: METR-LA, what it compares with and ST-UNet at 15, 30 and 60 minutes.

    python -m benchmarks.paper.table1 [--row FNN "ST-UNet, preset paper" …] [--minutes 10] [--paper-minutes 60]
    python -m benchmarks.paper.table1 --data FOLDER --minutes 0 --paper-minutes 0

The first is on the week at hand, with limited CPU time. The second is the paper's: FOLDER has metr-la.h5 and adj_mx.pkl
as DCRNN's authors distribute them, and preset paper takes its 80 epochs. ST-UNet has two rows: the preset `paper`, its
model and training as far as the paper tells, and the preset `default`, this project's. A run is kept as soon as it is
done; runs found with the same settings are not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.accuracy import AccuracyTable
from benchmarks.paper.published import TABLES
from benchmarks.paper.recordings import METR_LA
from benchmarks.paper.rows import COMPARISON

TABLE = AccuracyTable(
    1,
    "Table 1 of the ST-UNet paper: METR-LA",
    (METR_LA,),
    COMPARISON,
    TABLES,
    "Protocol A: 70/10/20 of the windows. HA is the mean of the same time of earlier days, GCGRU one graph GRU trained "
    "as this project trains. Errors in mph.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table."""
    TABLE.main(__doc__, arguments)


if __name__ == "__main__":
    main()
