from __future__ import annotations

import io
import json
import logging
import os

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


def test_the_end_of_a_trouble_is_said_and_its_return_is_said_anew(out):
    log = StreamLog("ring")
    log.over("undelivered: csv")
    for times in (12, 2):
        for _ in range(times):
            log.again("undelivered: csv", "full")
        log.over("undelivered: csv")
        log.over("undelivered: csv")
    said = [json.loads(line)["message"] for line in out.getvalue().splitlines()]
    assert said == [
        "full (undelivered: csv)",
        "full (undelivered: csv, 10 times)",
        "over: undelivered: csv, 12 times",
        "full (undelivered: csv)",
        "over: undelivered: csv, 2 times",
    ]


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


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("lines", ["<6>INFO ring: well", "<4>WARNING ring: odd (late)", "<3>ERROR ring: bad\\nvery bad"]),
        ("json", ["<6>", "<4>", "<3>"]),
    ],
)
def test_the_journal_gets_levels_and_lines_without_a_time(form, expected, tmp_path, monkeypatch):
    with (tmp_path / "journal").open("w") as out:
        status = os.fstat(out.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        level, propagate = LOG.level, LOG.propagate
        handler = start_log(form, out)
        log = StreamLog("ring")
        log.info("well")
        log.again("late", "odd")
        log.error("bad\nvery bad")
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        LOG.propagate = propagate

    said = (tmp_path / "journal").read_text().splitlines()
    if form == "json":
        assert [json.loads(line[3:])["message"] for line in said] == ["well", "odd (late)", "bad\nvery bad"]
        said = [line[:3] for line in said]
    assert said == expected
