"""What is read of a file is what was meant, whatever the dialect it is written in."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.files.dialects import DIFFERENT, EQUAL, read_back
from benchmarks.files.frame_dialects import frame_dialects
from benchmarks.files.recordings import recordings
from benchmarks.files.text_dialects import text_dialects

for module in ("pandas", "openpyxl", "tables"):
    pytest.importorskip(module)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dialects")


@settings(max_examples=350, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_recording_comes_back_from_every_text(folder: Path, data: st.DataObject) -> None:
    recording = data.draw(recordings())
    dialect = data.draw(text_dialects(recording))
    outcome = read_back(recording, dialect, folder)
    assert outcome != DIFFERENT
    if dialect.zone in ("UTC", "Asia/Kolkata"):  # where no hour occurs twice
        assert outcome == EQUAL


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_recording_comes_back_from_every_frame(folder: Path, data: st.DataObject) -> None:
    recording = data.draw(recordings())
    dialect = data.draw(frame_dialects(recording))
    outcome = read_back(recording, dialect, folder)
    assert outcome != DIFFERENT
    if dialect.zone in ("UTC", "Asia/Kolkata") and not dialect.two_levels:
        assert outcome == EQUAL
