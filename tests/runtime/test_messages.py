from __future__ import annotations

import io
import json

import pytest

from runtime import messages
from runtime.messages import LONGEST_MESSAGE, MOST_PARTS, read_json_line, read_json_lines, read_message
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


@pytest.mark.parametrize(
    "text",
    [
        b" " * (LONGEST_MESSAGE + 1),
        b"[" + b"[]," * MOST_PARTS + b"0]",
        '{"timestamp": 1, "values": {"a": [' + "1," * MOST_PARTS + "1]}}",
        b'{"a":' * (MOST_PARTS // 2 + 1),
    ],
    ids=["long", "lists", "values", "objects"],
)
def test_a_message_that_would_take_too_much_memory_is_refused_before_it_is_read(text, monkeypatch):
    monkeypatch.setattr(messages.json, "loads", lambda text: pytest.fail("it is read"))
    with pytest.raises(StreamError, match="expected at most") as caught:
        read_message(text)
    assert caught.value.reason == "message"


def test_an_interval_of_the_largest_network_is_read():
    sensors = {f"{number:012}": {feature: 91.25 for feature in ("speed", "flow")} for number in range(200_000)}
    line = json.dumps({"timestamp": 1, "values": sensors})
    assert len(read_json_line(line).values) == 200_000


def test_no_memory_is_a_refusal(monkeypatch):
    def loads(text):
        raise MemoryError

    monkeypatch.setattr(messages.json, "loads", loads)
    with pytest.raises(StreamError, match="no memory") as caught:
        read_message(b"{}")
    assert caught.value.reason == "message"
