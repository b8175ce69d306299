"""Table 3 of the ST-UNet paper: what pooling in space and dilation in time are worth, on PeMSD7(M).

    python -m benchmarks.paper.table3 [--row "ST-UNet, preset default" …] [--minutes 10] [--paper-minutes 60]
    python -m benchmarks.paper.table3 --minutes 0 --paper-minutes 0 --epochs 8
    python -m benchmarks.paper.table3 --data FOLDER --minutes 0 --paper-minutes 0

The first gives every variant the same CPU time, the second the same updates. The third is the paper's: FOLDER has
PeMSD7_V_228.csv and PeMSD7_W_228.csv as STGCN's authors distribute them, and preset paper takes its 80 epochs. The
variants are the paper's "without training tricks" (no layer norm, the decoder always fed the label), and those of this
project's preset. A run is kept as soon as it is done; runs found with the same settings are not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.accuracy import AccuracyTable
from benchmarks.paper.published import ABLATION as PUBLISHED
from benchmarks.paper.recordings import PEMSD7_M
from benchmarks.paper.rows import ABLATION

TABLE = AccuracyTable(
    3,
    "Table 3 of the ST-UNet paper: its parts, on PeMSD7(M)",
    (PEMSD7_M,),
    ABLATION,
    PUBLISHED,
    "GCGRU is a plain stack of three graph GRUs, T-UNet has the dilation alone, S-UNet the pooling alone, ST-UNet "
    "both. Protocol B: 34/5/5 of 44 weekdays, 5/1/1 of seven, windows within a day. Errors in mph.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table."""
    TABLE.main(__doc__, arguments)


if __name__ == "__main__":
    main()
