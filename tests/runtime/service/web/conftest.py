"""A running service with a page, and what asks it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.service.config import read_config
from tests.waiting import LONG_S


@pytest.fixture
def noon():
    """The end of the readings, in seconds since the epoch."""
    return 1_330_588_800 + 40 * 300.0


@pytest.fixture
def serving(write_config, pipe, lines, start, noon):
    """Return a function that starts a service with a page and lets it forecast from some lines, at noon."""
    now = [noon]

    def serve(count=40, **options):
        config = write_config('kind = "stdin"', ['kind = "stdout"'], top="[http]\nport = 0", **options)
        running = start(config, clock=lambda: now[0], reread=lambda: read_config(config))
        running.config, running.now = config, now
        pipe.write("".join(f"{line}\n" for line in lines[:count]))
        pipe.flush()
        running.wait_for(lambda status: status.counters["service"]["forecasts"] == count)
        return running

    return serve


@pytest.fixture
def get():
    """Return a function of a service and a path that returns status, media type and body of the answer."""

    def get(running, path):
        try:
            with urllib.request.urlopen(running.service.url + path.lstrip("/"), timeout=LONG_S) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read()

    return get


@pytest.fixture
def read(get):
    """Return a function of a service and a path that returns the JSON of a good answer."""

    def read(running, path):
        status, kind, body = get(running, path)
        assert (status, kind) == (200, "application/json"), body
        return json.loads(body)

    return read


@pytest.fixture
def metrics(get):
    """Return a function of a service that returns values by labels by name, as Prometheus' own parser reads them."""

    def metrics(running):
        status, kind, body = get(running, "/metrics")
        assert status == 200
        assert kind.startswith("text/plain; version=")
        found = {}
        for family in text_string_to_metric_families(body.decode()):
            assert family.documentation
            for sample in family.samples:
                assert sample.name not in found or tuple(sorted(sample.labels.items())) not in found[sample.name]
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    return metrics
