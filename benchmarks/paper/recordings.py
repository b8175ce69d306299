"""The recordings of the paper's tables: whole as their authors distribute them, or a part of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.five_sets import Recording
from benchmarks.harness.weeks import TIMEZONE, small_recording
from stunet_deploy.errors import DataError
from stunet_deploy.series.series import read_series

#: Intervals of a day.
_DAY, _WEEK = 288, 2016


@dataclass(frozen=True)
class PaperSet:
    """A set of the paper.

    Attributes:
        name, title: in the JSON and in the tables.
        week: what 2,016 rows of it are.
        days: what its days are.
        rows: of the whole recording.
        channels: of the paper's ST-UNet on it.
        files: recording and graph, as distributed or else a part of it as npz; the first that are there are taken.
    """

    name: str
    title: str
    week: str
    days: str
    rows: int
    channels: int
    files: tuple[tuple[str, str], ...]

    def find(self, folder: Path) -> Recording | None:
        """Return the recording in a folder, titled by how much of the set it is; None if there is none."""
        for data, graph in self.files:
            if (folder / data).is_file() and (folder / graph).is_file():
                return Recording(self.name, self._titled(folder / data), folder / data, folder / graph, TIMEZONE)
        return None

    def _titled(self, data: Path) -> str:
        rows = len(read_series(data, timezone=TIMEZONE).timestamps)
        if rows == self.rows:
            return f"{self.title}, whole ({rows:,} rows)"
        part = self.week if rows == _WEEK else f"{rows / _DAY:g} {self.days}"
        return f"{part} of {self.title} ({rows:,} of {self.rows:,} rows)"


METR_LA = PaperSet(
    *("metr-la", "METR-LA", "One week", "days", 34_272, 96),
    (("metr-la.h5", "adj_mx.pkl"), ("metr-la.npz", "metr-la.npz")),
)
PEMSD7_M = PaperSet(
    *("pemsd7-m", "PeMSD7(M)", "Seven weekdays", "weekdays", 12_672, 64),
    (("PeMSD7_V_228.csv", "PeMSD7_W_228.csv"), ("pemsd7-m.npz", "pemsd7-m.npz")),
)
PEMSD7_L = PaperSet(
    *("pemsd7-l", "PeMSD7(L)", "Seven weekdays", "weekdays", 12_672, 64),
    (("PeMSD7_V_1026.csv", "PeMSD7_W_1026.csv"),),
)
SETS = {one.name: one for one in (METR_LA, PEMSD7_M, PEMSD7_L)}


def find_all(sets: Sequence[PaperSet], folder: Path) -> list[Recording]:
    """Return the recordings of the sets that are in a folder.

    Raises:
        DataError: there is none of them.
    """
    found = [recording for one in sets if (recording := one.find(folder)) is not None]
    if not found:
        files = " or ".join(" with ".join(dict.fromkeys(pair)) for one in sets for pair in one.files)
        raise DataError(f"the folder {folder}", files, "name the folder of the recordings with --data or STUNET_DATA")
    return found


def small(folder: Path) -> Recording:
    """Write a small recording cut from the shipped data and return it: it takes the place of a set with --quick."""
    path = small_recording(folder / "paper.npz")
    return Recording("shipped", "Freeway, simulated (km/h)", path, path, "Europe/Berlin")
