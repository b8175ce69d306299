"""What the page is told, from a manifest and the numbers alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from runtime.service.web import views
from runtime.service.web.history import Row


@pytest.mark.parametrize(
    ("limits", "decimals"), [((0, 84), 1), ((0, 3000), 0), ((-1, 1), 2), ((0, 0.5), 3), ((0, 0), 3), ((-120, 20), 0)]
)
def test_numbers_are_shown_with_three_digits(example, limits, decimals):
    manifest = replace(example.bundle.manifest, limits=(limits, (-1, 1)))

    assert views.decimals_of(manifest, "speed") == decimals
    assert views.decimals_of(manifest, "no feature") == 3


def test_values_are_json_whatever_they_are(example):
    manifest = replace(example.bundle.manifest, targets=("speed", 'of "two"\n'), target_units=("mph", ""))
    observed = np.array([[np.nan, 1e-9], [1.0, -0.0], [2.25, 3], [4, 5], [6, 79.96]], np.float32)
    forecast = np.arange(30, dtype=np.float32).reshape(3, 5, 2) / 7

    found = json.loads(b"".join(views.values(Row(600, observed, forecast), manifest)))

    assert found["observed"] == {"speed": [None, 1.0, 2.2, 4.0, 6.0], 'of "two"\n': [0.0, 0.0, 3.0, 5.0, 79.96]}
    np.testing.assert_allclose(found["forecast"]['of "two"\n'], forecast[..., 1], atol=5.01e-4)


def test_edges_are_drawn_where_the_manifest_has_them(example):
    described = {
        "edges": [
            {"source": "s0", "target": "s1"},
            {"source": "s1", "target": "s0"},
            {"source": "s3", "target": "s3"},
            {"source": "s4", "target": "s2"},
            {"source": "s4", "target": "a ramp"},
        ]
    }
    manifest = replace(example.bundle.manifest, config={"st_graph": json.dumps(described)})

    assert views.edges(manifest) == [(0, 1), (2, 4)]
    assert views.edges(example.bundle.manifest) is None
