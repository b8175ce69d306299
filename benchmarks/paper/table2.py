"""Table 2 of the ST-UNet paper: PeMSD7, middle (228 stations) and large (1,026), at 15, 30 and 60 minutes.

    python -m benchmarks.paper.table2 [--row FNN "ST-UNet, preset paper" …] [--minutes 10] [--paper-minutes 60]
    python -m benchmarks.paper.table2 --data FOLDER --minutes 0 --paper-minutes 0

The first is on the seven weekdays of PeMSD7(M) at hand, with limited CPU time; of PeMSD7(L) no series is at hand, see
table4 for its size. The second is the paper's: FOLDER has PeMSD7_V_228.csv and PeMSD7_W_228.csv, PeMSD7_V_1026.csv and
PeMSD7_W_1026.csv, as STGCN's authors distribute them, and preset paper takes its 80 epochs. A run is kept as soon as it
is done; runs found with the same settings are not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.accuracy import AccuracyTable
from benchmarks.paper.published import TABLES
from benchmarks.paper.recordings import PEMSD7_L, PEMSD7_M
from benchmarks.paper.rows import COMPARISON

TABLE = AccuracyTable(
    2,
    "Table 2 of the ST-UNet paper: PeMSD7",
    (PEMSD7_M, PEMSD7_L),
    COMPARISON,
    TABLES,
    "Protocol B: 34/5/5 of 44 weekdays, 5/1/1 of seven, windows within a day. HA is the mean of the same time of "
    "earlier days, GCGRU one graph GRU trained as this project trains. Errors in mph.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table."""
    TABLE.main(__doc__, arguments)


if __name__ == "__main__":
    main()
