"""What goes wrong is said in words that tell one cause from another."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from runtime.service.mqtt.limits import Limits, unshared
from runtime.service.mqtt.trouble import MEANINGS, failure, refusal


@pytest.mark.parametrize(
    ("error", "reason", "words", "lasting"),
    [
        (ssl.SSLCertVerificationError(1, "self-signed"), "certificate", "ca_file", True),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong"), "tls", "no TLS with b:1", True),
        (socket.gaierror(-2, "Name or service not known"), "name", "no address for the host b", False),
        (UnicodeError("label empty or too long"), "name", "no name of a host", True),
        (ValueError("embedded null byte"), "name", "no name of a host", True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused", "nothing listens", False),
        (TimeoutError("timed out"), "silent", "does not answer", False),
        (OSError(errno.ENETUNREACH, "unreachable"), "route", "no way to b:1 (unreachable)", False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "broken", "(reset)", False),
        (MemoryError(), "MemoryError", "an error in the connection", False),
    ],
)
def test_errors_of_the_network(error, reason, words, lasting):
    trouble = failure(error, "b", 1)
    assert (trouble.reason, trouble.lasting) == (reason, lasting)
    assert words in trouble.text


def test_every_reason_code_has_a_meaning_of_its_own_and_unknown_ones_are_said_too():
    assert len(set(MEANINGS.values())) == len(MEANINGS)
    paho = pytest.importorskip("paho.mqtt.reasoncodes")
    known = {code for code in paho.ReasonCode.names if code >= 0x80} - {0x92}  # 0x92 answers QoS 2 alone
    assert known <= set(MEANINGS)
    assert "unknown code (0xee" in refusal("connect", "refused", 0xEE, "x" * 1000).text
    assert len(refusal("connect", "refused", 0xEE, "x" * 100_000).text) < 1000


def test_limits_are_kept():
    limits = Limits.of(object(), 60)
    assert (limits.packet, limits.qos, limits.forbids("$share/a/#"), list(limits.remarks(60))) == (None, 1, None, [])
    small = Limits(packet=100, ahead=1, qos=1, retain=True, wildcards=False, shared=False, session_s=0, other_id=None)
    assert small.takes("t" * 10, b"x" * 80)
    assert not small.takes("t" * 10, b"x" * 81)
    assert [small.forbids(topic) for topic in ("a", "a/+", "#", "$share/g/a")] == [None, 0xA2, 0xA2, 0x9E]
    assert "0 s" in next(small.remarks(60))


@pytest.mark.parametrize(
    ("topic", "plain"), [("a/+", "a/+"), ("$share/g/a/#", "a/#"), ("$share/g//a", "/a"), ("$sharex/a/b", "$sharex/a/b")]
)
def test_the_filter_of_a_shared_subscription(topic, plain):
    assert unshared(topic) == plain
