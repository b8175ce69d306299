"""Is a recording read as it was meant, whatever the dialect of its file? Thousands of drawn dialects, read back.

    python -m benchmarks.files.dialects [--count 10000] [--seed 0]

A recording (some sensors with odd ids, features, gaps, an interval, a start) and a way to write it are drawn: as text
with its delimiter, decimal sign, quotes, encoding, packing, form of times, names and order, or as a frame that pandas
writes to Parquet, HDF5 or Excel. What is read must be equal to what was written, to the last bit, or be refused; of
what is refused the page tells why.
"""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.files.frame_dialects import FrameDialect, frame_dialects, write_frame
from benchmarks.files.recordings import Recording, recordings
from benchmarks.files.text_dialects import TextDialect, text_dialects, write_text
from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, measured_on, page, table
from stunet_deploy.errors import DataError
from stunet_deploy.series.facts import USUAL_NAME
from stunet_deploy.series.series import read_series

EQUAL, DIFFERENT = "equal", "different"
LIBRARIES = ("pandas", "pyarrow", "h5py", "openpyxl", "tables")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the dialects and write the page."""
    command = Command("benchmarks.files.dialects", __doc__)
    command.option("--count", 10_000, "number of dialects", quick=60)
    command.option("--seed", 0, "of all that is drawn")
    command.run(measure, report, arguments)


def read_back(recording: Recording, dialect: TextDialect | FrameDialect, folder: Path) -> str:
    """Write a recording in a dialect and read it.

    Returns:
        ``equal``, ``different``, or what an error says that was expected.
    """
    write = write_text if isinstance(dialect, TextDialect) else write_frame
    path = write(recording, cast(Any, dialect), folder)
    features = recording.features if dialect.long else (USUAL_NAME,)
    try:
        series = read_series(path, timezone=dialect.zone)
    except DataError as refused:
        return refused.expected
    if (sorted(series.sensor_ids), sorted(series.features)) != (sorted(recording.sensors), sorted(features)):
        return DIFFERENT
    nodes, columns = [*map(series.sensor_ids.index, recording.sensors)], [*map(series.features.index, features)]
    found = np.where(series.observed, series.values, np.nan)[:, nodes][:, :, columns]
    meant = recording.values[..., : len(features)].astype(np.float32)
    same = np.array_equal(series.timestamps, recording.times) and np.array_equal(found, meant, equal_nan=True)
    return EQUAL if same else DIFFERENT


def dialects(recording: Recording) -> st.SearchStrategy[TextDialect | FrameDialect]:
    """Return all ways to write a recording, one in two as text."""
    return st.one_of(text_dialects(recording), frame_dialects(recording))


def measure(options: Namespace) -> dict[str, Any]:
    """Read so many dialects back and count what became of them."""
    counts, different = Counter[tuple[str, str]](), list[str]()
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        @seed(options.seed)
        @settings(
            max_examples=options.count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            derandomize=False,
            suppress_health_check=[*HealthCheck],
        )
        @given(data=st.data())
        def read_one(data: st.DataObject) -> None:
            recording = data.draw(recordings())
            dialect = data.draw(dialects(recording))
            outcome = read_back(recording, dialect, folder)
            kind = "text" if isinstance(dialect, TextDialect) else dialect.kind
            counts[kind, outcome] += 1
            if outcome == DIFFERENT:
                spanned = f"{len(recording.times)} intervals from {recording.times[0]} to {recording.times[-1]}"
                different.append(f"{dialect} of {recording.sensors}, {recording.features}, {spanned}")

        read_one()
    return {
        "counts": [[*key, count] for key, count in sorted(counts.items())],
        "different": different,
        "cpu_seconds": time.process_time() - begin,
        "environment": measured_on(*LIBRARIES),
    }


def report(result: dict[str, Any]) -> str:
    """Return the counts as a page."""
    counts = {(kind, outcome): count for kind, outcome, count in result["counts"]}
    rows = []
    for kind in sorted({kind for kind, _ in counts}):
        of_kind = {outcome: count for (other, outcome), count in counts.items() if other == kind}
        equal, different = (of_kind.pop(outcome, 0) for outcome in (EQUAL, DIFFERENT))
        rows.append([kind, f"{equal:,}", f"{sum(of_kind.values()):,}", f"{different:,}"])
    refusals = Counter[str]()
    for (_, outcome), count in counts.items():
        if outcome not in (EQUAL, DIFFERENT):
            refusals[outcome] += count
    blocks = [table(["file", "read as it was meant", "refused", "read as something else"], rows)]
    if refusals:
        blocks += ["What was expected of those that were refused:"]
        blocks += [table(["expected", "files"], [[text, f"{count:,}"] for text, count in refusals.most_common()])]
    if result["different"]:
        blocks += ["Read as something else:", "\n".join(f"    {one}" for one in result["different"])]
    return page(
        "Dialects of recordings, written and read back",
        f"`{result['command']}`, {result['cpu_seconds'] / 60:.1f} CPU minutes: recording and dialect are drawn, "
        "what is read is compared to the last bit.",
        machine(result["environment"], *LIBRARIES),
        *blocks,
    )


if __name__ == "__main__":
    main()
