"""A broker, a peer of the service at it, and what the service's log warns of."""

from __future__ import annotations

import logging

import pytest

from runtime.service.logs import LOG


@pytest.fixture
def broker(tmp_path):
    from tests.runtime.service.mqtt.brokers import Mosquitto

    broker = Mosquitto(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def peer(broker):
    from tests.runtime.service.mqtt.brokers import Peer

    peer = Peer(broker)
    yield peer
    peer.close()


@pytest.fixture
def said(caplog, monkeypatch):
    """Return a function that returns the warnings and errors of the log."""
    monkeypatch.setattr(LOG, "propagate", True)
    caplog.set_level(logging.INFO, LOG.name)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
