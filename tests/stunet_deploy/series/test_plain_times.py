"""Times in their most usual forms are read faster, and as those in any other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.errors import DataError
from stunet_deploy.series.times import Clock, parse_times

SECONDS = st.integers(10**9, 1_899_999_999).map(str)
DATES = st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds"))


@given(st.lists(SECONDS, min_size=1) | st.lists(DATES, min_size=1))
def test_they_are_what_each_alone_is_in_a_form_that_is_not(texts: list[str]) -> None:
    found, local = parse_times(texts, "a.csv")
    slowly, same = parse_times([f" {text} " for text in texts], "a.csv")

    assert found.tolist() == slowly.tolist()
    assert local == same == ("-" in texts[0])


@pytest.mark.parametrize("text", ["2012-02-30T00:00", "2012-03-01 25:00", "2012-13-01T00:00:00", "0000-01-01T00:00"])
def test_what_is_no_date_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"a.csv: {text!r} as a time (line 7)")):
        parse_times(["2012-03-01T00:00", text], "a.csv", [5, 7])


def test_a_leap_second_among_them_is_read_too() -> None:
    seconds, _ = parse_times(["2012-06-30T23:59:59", "2012-06-30T23:59:60"], "a.csv")
    assert seconds[1] - seconds[0] == 1


def test_parts_of_a_file_are_of_one_form() -> None:
    clock = Clock("a.csv")
    clock.add(["2012-03-01T00:00", "2012-03-01T00:05"], [2, 3])
    clock.add(["2012-03-01T00:10"], [4])
    seconds, local = clock.read()
    assert (seconds - seconds[0]).tolist() == [0, 300, 600]
    assert local
    with pytest.raises(DataError, match="'2012-03-01T00:10' and then '2012-03-01T00:15Z'; expected UTC offsets in all"):
        clock.add(["2012-03-01T00:15Z"], [5])
