"""The fields of a snapshot's file: which there must be, and of which kind each is; others are named and left.

The rule by which versions read each other's files: what is listed here is required of this layout. A later version may
add fields, which an earlier one leaves with a remark, as long as a stream is right without them; what must not be
ignored makes a new layout, which an earlier version does not use. Counters but ``pushes`` may come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from runtime.clock import is_time

Kind = Callable[[Any], bool]


def _array(dtype: type, axes: int) -> Kind:
    return lambda value: isinstance(value, np.ndarray) and value.dtype == np.dtype(dtype) and value.ndim == axes


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_counters(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_count(count) or (isinstance(count, dict) and all(map(_is_count, count.values())))
        for count in value.values()
    )


def _is_stamp(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and is_time(value)


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < np.inf


ABOUT: Mapping[str, Kind] = {
    "bundle_id": _is_text,
    "mode": _is_text,
    "age": _is_count,
    # By the number of pushes the journal knows what is missing between them.
    "counters": lambda value: _is_counters(value) and _is_count(value.get("pushes")),
}
LAST: Mapping[str, Kind] = {
    "values": _array(np.float32, 2),
    "observed": _array(np.bool_, 2),
    "forecast": _array(np.float32, 3),
    "issued_s": _is_stamp,
    "observed_share": lambda value: _is_amount(value) and value <= 1,
    "reasons": _is_texts,
    "step_us": _is_amount,
}
FLAT: Mapping[str, Kind] = {"values": _array(np.float32, 2), "runs": _array(np.int32, 2)}
READINGS: Mapping[str, Kind] = {
    "names": _is_texts,
    "nodes": _array(np.int32, 1),
    "seconds": _array(np.float64, 1),
    "values": _array(np.float64, 2),
    "closed_s": lambda value: value is None or _is_stamp(value),
    "counters": _is_counters,
}


def checked(found: Mapping[str, Any], kinds: Mapping[str, Kind], prefix: str, unknown: list[str]) -> dict[str, Any]:
    """Return the fields of a part that this version knows, and add the names of the others to ``unknown``.

    Raises:
        ValueError: naming a field that is missing or of another kind.
    """
    for name, good in kinds.items():
        if name not in found or not good(found[name]):
            raise ValueError(f"{prefix}{name} is {'of another kind' if name in found else 'missing'}")
    unknown += [prefix + name for name in found if name not in kinds]
    return {name: found[name] for name in kinds}
