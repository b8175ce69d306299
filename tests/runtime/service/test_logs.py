from __future__ import annotations

import io
import json
import logging

import pytest

from runtime.service.logs import LOG, StreamLog, start_log


@pytest.fixture
def out():
    text = io.StringIO()
    level, propagate = LOG.level, LOG.propagate
    handler = start_log("json", text)
    yield text
    LOG.removeHandler(handler)
    LOG.setLevel(level)
    LOG.propagate = propagate


def test_what_happens_again_and_again_is_said_ever_more_rarely(out):
    log = StreamLog("ring")
    for _ in range(150):
        log.again("refused: late", "an old one")
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["message"] for line in said] == [
        "an old one (refused: late)",
        "an old one (refused: late, 10 times)",
        "an old one (refused: late, 100 times)",
    ]
    assert {(line["stream"], line["level"]) for line in said} == {("ring", logging.getLevelName(30).lower())}


def test_what_is_said_after_the_end_of_the_log_is_not_printed(capfd):
    level, propagate = LOG.level, LOG.propagate
    LOG.removeHandler(start_log("lines", io.StringIO()))
    StreamLog("ring").error("too late")
    logging.getLogger(f"{LOG.name}.mqtt").error("Caught exception in on_message: too late")
    LOG.setLevel(level)
    LOG.propagate = propagate

    assert capfd.readouterr() == ("", "")


def test_a_warning_quotes_no_megabytes(out):
    StreamLog("ring").again("refused: reading", "reading " + "9" * 2**20)
    (line,) = out.getvalue().splitlines()
    assert len(line) < 1000
    assert json.loads(line)["message"].endswith("9… (1,048,584 characters) (refused: reading)")
