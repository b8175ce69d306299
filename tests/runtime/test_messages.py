from __future__ import annotations

import io
import json

import pytest

from runtime.messages import read_json_line, read_json_lines
from runtime.stream import Stream
from stunet_deploy.errors import StreamError


def test_json_lines_are_pushes(example):
    stamps = ["2012-03-01T08:00:00Z", 1_330_588_800 + 300]
    lines = [json.dumps({"timestamp": stamp, "values": {"s1": {"speed": 30}, "s2": None}}) for stamp in stamps]
    stream = Stream.open(example.bundle)
    for record in read_json_lines(io.StringIO(lines[0] + "\n\n" + lines[1] + "\n")):
        forecast = stream.push(*record)
    assert stream.counters.pushes == 2
    assert forecast.observed_share == 0.1


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", "null", '{"timestamp": 1}', '{"timestamp": 1, "values": [1]}', "[" * 100_000]
)
def test_other_lines_are_refused(line):
    with pytest.raises(StreamError, match="one such object per line or message"):
        read_json_line(line)


def test_a_refused_line_is_named_by_its_number():
    with pytest.raises(StreamError, match="line 2: the keys"):
        list(read_json_lines(['{"timestamp": 1, "values": {}}', '{"time": 1}']))
