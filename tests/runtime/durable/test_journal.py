from __future__ import annotations

import numpy as np
import pytest

from runtime.durable.journal import Input, Journal, Reset, SingleReading, decode, encode, read_journal
from runtime.readings import Interval
from stunet_deploy.errors import DataError

SHAPE = (3, 2)
RECORDS = [b"header", b"first", b"x" * 300, b"\0", b"last one"]


def written(path, records=RECORDS):
    journal = Journal(path, records[0])
    for record in records[1:]:
        journal.append(record, sync=False)
    journal.close()
    return path.read_bytes()


def test_records_come_back(tmp_path):
    written(tmp_path / "j")
    assert read_journal(tmp_path / "j") == (RECORDS, 0, False)
    written(tmp_path / "j", [b"another"])
    assert read_journal(tmp_path / "j").records == [b"another"]


def test_a_journal_that_is_cut_anywhere_keeps_what_is_whole(tmp_path):
    whole = written(tmp_path / "whole")
    ends = np.cumsum([len(record) + 8 for record in RECORDS])
    for length in range(len(whole) + 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        found = read_journal(tmp_path / "cut")
        count = int(np.searchsorted(ends, length, side="right"))
        assert found.records == RECORDS[:count]
        assert found.rest == length - (ends[count - 1] if count else 0)
        assert found.torn == (found.rest > 0)


def test_every_byte_that_is_changed_ends_the_journal_before_it(tmp_path):
    whole = written(tmp_path / "whole")
    ends = np.cumsum([len(record) + 8 for record in RECORDS])
    rng = np.random.default_rng(5)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        (tmp_path / "damaged").write_bytes(damaged)
        found = read_journal(tmp_path / "damaged")
        count = int(np.searchsorted(ends, position, side="right"))
        assert found.records == RECORDS[:count]
        assert found.rest > 0
        # Only a crash cuts a record; a length that was damaged promises more than there is, too.
        assert not found.torn


def test_zeros_that_a_power_cut_left_are_no_records(tmp_path):
    whole = written(tmp_path / "j")
    (tmp_path / "j").write_bytes(whole + bytes(64))
    assert read_journal(tmp_path / "j") == (RECORDS, 64, False)


def test_entries_come_back_bit_for_bit():
    rng = np.random.default_rng(1)
    observed = rng.random(SHAPE) > 0.4
    values = np.where(observed, rng.normal(size=SHAPE), 0).astype(np.float32)
    entry = Input(Interval(values, observed, outside_limits=3, unknown=7), -1_330_588_800, True)
    found = decode(encode(entry), SHAPE)
    assert found.interval.same_readings(entry.interval)
    assert found.interval.values.dtype == np.float32
    assert (found.stamp, found.restart) == (-1_330_588_800, True)
    assert (found.interval.outside_limits, found.interval.unknown) == (3, 7)
    reading = decode(encode(SingleReading(2, 1.25e9, (61.5, np.nan))), SHAPE)
    assert (reading.node, reading.seconds, reading.values[0]) == (2, 1.25e9, 61.5)
    assert np.isnan(reading.values[1])
    assert isinstance(decode(encode(Reset()), SHAPE), Reset)


@pytest.mark.parametrize("record", [b"", b"X", b"I123", b"S12", b"Rr"])
def test_bytes_of_no_entry_are_refused(record):
    with pytest.raises(DataError, match="a journal record"):
        decode(record, SHAPE)


def test_an_interval_of_another_network_is_refused():
    record = encode(Input(Interval(np.zeros((4, 2), np.float32), np.zeros((4, 2), np.bool_)), 0))
    with pytest.raises(DataError, match="a record of this bundle"):
        decode(record, SHAPE)
