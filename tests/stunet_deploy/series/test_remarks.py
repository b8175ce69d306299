"""Each weakness of a recording has its remark, those first that matter most, and the verdict follows from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stunet_deploy.series.description import describe_series
from stunet_deploy.series.remarks import remark_on_series, verdict
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site

START_S, INTERVAL_S, DAYS, NODES = 1_740_960_000, 900, 21, 5  # 2025-03-03T00:00Z
NOW_S = START_S + 60 * 86_400
SHAPE = (DAYS * 96, NODES, 1)

Change = Callable[[np.ndarray, np.ndarray], None]


def recording(change: Change, *, days: int = DAYS, start: int = START_S, timezone: str = "Europe/Berlin") -> Series:
    rng, rows = np.random.default_rng(0), days * 96
    values = (60 + 10 * np.sin(np.arange(rows) / 15)[:, None, None] + rng.normal(0, 3, (rows, NODES, 1))).round(1)
    observed = np.ones(values.shape, bool)
    values = values.astype(np.float32)
    change(values, observed)
    site = Site(tuple("ABCDE"), ("speed",), ("km/h",), INTERVAL_S, timezone=timezone)
    return Series(np.where(observed, values, 0), observed, start + INTERVAL_S * np.arange(rows), site)


def some(number: float, step: int = 17) -> Change:
    def change(values: np.ndarray, observed: np.ndarray) -> None:
        values.reshape(-1)[::step] = number

    return change


def minus_one(values: np.ndarray, observed: np.ndarray) -> None:
    values -= values.min()
    some(-1)(values, observed)


def nothing(values: np.ndarray, observed: np.ndarray) -> None:
    pass


def normalised(values: np.ndarray, observed: np.ndarray) -> None:
    values -= values.mean()
    values /= values.std()


def counts(values: np.ndarray, observed: np.ndarray) -> None:
    values[...] = np.random.default_rng(1).poisson(1.5, values.shape)


def night(values: np.ndarray, observed: np.ndarray) -> None:
    observed[np.arange(len(observed)) % 96 < 20] = False


def silent(values: np.ndarray, observed: np.ndarray) -> None:
    observed[:, 2] = False


def out_for_days(values: np.ndarray, observed: np.ndarray) -> None:
    observed[100:400, 1] = False


def still(values: np.ndarray, observed: np.ndarray) -> None:
    values[:, 3] = 50


def stuck(values: np.ndarray, observed: np.ndarray) -> None:
    values[200:500, 4] = 61.5


def sparse(values: np.ndarray, observed: np.ndarray) -> None:
    observed[::2] = False
    observed[1::4, :3] = False


CASES = [
    (nothing, "", "ready"),
    (some(2046), "exactly 2046, far from all others", "doubtful"),
    (some(-1), "exactly -1, far from all others", "doubtful"),
    (minus_one, "always -1: if that stands for no data, say --no-data -1", "doubtful"),
    (some(0), "exactly 0 and few are near it: if 0 means no data, say --no-data 0", "doubtful"),
    (counts, "are 0; these look like readings", "ready"),
    (normalised, "looks normalised", "doubtful"),
    (some(1e7, step=9000), "2 speed readings are far beyond all others", "usable"),
    (night, "no readings every day from", "ready"),
    (silent, "1 of 5 sensors never say anything", "usable"),
    (out_for_days, "sensor B is silent for 3.12 d on end", "usable"),
    (still, "1 sensor(s) give one and the same speed", "usable"),
    (stuck, "repeat the one before for hours, most of them at sensor E", "usable"),
    (sparse, "of the speed readings are missing", "usable"),
]


@pytest.mark.parametrize(("change", "words", "expected"), CASES, ids=[words or "nothing" for _, words, _ in CASES])
def test_what_stands_out_is_remarked(change: Change, words: str, expected: str) -> None:
    remarks = remark_on_series(describe_series(recording(change)), NOW_S)
    assert verdict(remarks)[0] == expected, remarks
    if words:
        assert any(words in remark.text for remark in remarks), remarks
    else:
        assert remarks == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"days": 4}, "4.0 days: from 14 days on"),
        ({"start": START_S + 400 * 86_400}, "in the future"),
        ({"start": 300_000_000 // 900 * 900}, "it begins on 1979-07-05"),
        ({"timezone": "UTC"}, "give --timezone"),
    ],
)
def test_times_that_stand_out_are_remarked(facts: dict[str, int], words: str) -> None:
    remarks = remark_on_series(describe_series(recording(nothing, **facts)), NOW_S)  # type: ignore[arg-type]
    assert any(words in remark.text for remark in remarks), remarks


def test_what_matters_most_comes_first() -> None:
    def both(values: np.ndarray, observed: np.ndarray) -> None:
        silent(values, observed)
        some(2046)(values, observed)

    weights = [one.weight for one in remark_on_series(describe_series(recording(both, timezone="UTC")), NOW_S)]
    assert weights == ["wrong", "costs", "know"]
