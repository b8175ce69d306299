"""The reader of configuration: types, places in messages, and dataclasses told apart by their kind."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from stunet_deploy.config_mapping import check_choices, choices, from_mapping
from stunet_deploy.errors import ConfigError


@dataclass(frozen=True)
class File:
    kind: Literal["file"]
    path: Path


@dataclass(frozen=True)
class Broker:
    kind: Literal["broker"]
    topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    from_: str
    span: tuple[int, float] = (0, 1.0)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(f"weight = {self.weight:g}", "at least 0", "correct it")


@dataclass(frozen=True)
class Whole:
    source: File | Broker
    edge: tuple[Edge, ...] = ()
    files: Mapping[Literal["train", "test"], Path] = field(default_factory=dict)
    rules: dict[str, Edge] = field(default_factory=dict)
    period_s: float | None = None
    drift: Edge | None = None
    mode: Literal["carry", "window"] = "carry"
    free: Any = None


SOURCE = {"kind": "broker"}


def read(data: dict[str, Any]) -> Whole:
    return from_mapping(Whole, {"source": SOURCE} | data)


def test_a_table_is_read_with_tables_lists_mappings_and_paths_in_it():
    found = from_mapping(
        Whole,
        {
            "source": {"kind": "file", "path": "a/b.csv"},
            "edge": [{"from": "x", "span": [3, 4]}, {"from": "y", "weight": 2}],
            "files": {"train": "week.npz", "test": "/data/other.npz"},
            "rules": {"speed": {"from": "z"}},
            "period_s": 30,
            "drift": {"from": "w"},
            "mode": "window",
            "free": {"any": [1]},
        },
        folder=Path("folder"),
    )

    assert found.source == File("file", Path("folder/a/b.csv"))
    assert repr(found.edge) == repr((Edge("x", (3, 4.0)), Edge("y", weight=2.0)))
    assert found.files == {"train": Path("folder/week.npz"), "test": Path("/data/other.npz")}
    assert found.rules == {"speed": Edge("z")}
    assert (found.period_s, found.drift, found.mode, found.free) == (30.0, Edge("w"), "window", {"any": [1]})
    assert read({"period_s": None, "drift": None}) == read({}) == Whole(Broker("broker"))  # null, in JSON


@pytest.mark.parametrize(
    ("data", "came", "expected"),
    [
        ({"edge": [{"from": "x"}, {"from": 3}]}, "edge 2.from = 3", "text"),
        ({"edge": [{"from": "x", "to": "y"}]}, "unknown key edge 1.to", "keys among from, span, weight"),
        ({"edge": [{"from": "x", "weight": -1}]}, "edge 1: weight = -1", "at least 0"),
        ({"edge": [{"name": "a b", "from": "x"}]}, 'unknown key edge "a b".name', "keys among from, span, weight"),
        ({"edge": [{}]}, "no edge 1.from", "text"),
        ({"edge": {"from": "x"}}, "edge = {'from': 'x'}", "a list, each entry a table"),
        ({"edge": [{"from": "x", "span": [1]}]}, "edge 1.span = [1]", "a list of 2: a whole number, a number"),
        ({"edge": [{"from": "x", "span": [1.5, 1]}]}, "edge 1.span 1 = 1.5", "a whole number"),
        ({"rules": {"speed": 3}}, "rules.speed = 3", "a table"),
        ({"rules": {"speed": {"from": "x", "weight": True}}}, "rules.speed.weight = True", "a number"),
        ({"rules": [1]}, "rules = [1]", "a table"),
        ({"files": {"train": ""}}, "files.train = ''", "a path, as text"),
        ({"files": {"tests": "x"}}, "a key of files = 'tests'", "one of train, test"),
        ({"period_s": "30"}, "period_s = '30'", "a number"),
        ({"period_s": 10**400}, "period_s = 1000000000", "a number"),
        ({"period_s": math.nan}, "period_s = nan", "a number"),
        ({"period_s": math.inf}, "period_s = inf", "a number"),
        ({"drift": {"from": None}}, "drift.from = None", "text"),
        ({"mode": "both"}, "mode = 'both'", "one of carry, window"),
        ({"mode": ["carry"]}, "mode = ['carry']", "one of carry, window"),
        ({"source": {"kind": "socket"}}, "source.kind = 'socket'", "one of file, broker"),
        ({"source": {"path": "x"}}, "source.kind = None", "one of file, broker"),
        ({"source": "broker"}, "source = 'broker'", "a table"),
        ({"source": {"kind": "file"}}, "no source.path", "a path, as text"),
        ({"source": {"kind": "broker", "topics": ["a", 1]}}, "source.topics 2 = 1", "text"),
    ],
)
def test_a_mistake_is_named_by_its_place(data, came, expected):
    with pytest.raises(ConfigError) as refused:
        read(data)

    assert refused.value.came.startswith(came)
    assert refused.value.expected == expected


@pytest.mark.parametrize(
    ("data", "action"),
    [
        ({"edge": {"from": "x"}}, "write it as [[edge]]"),
        ({"rules": {"speed": 3}}, "write it as [rules.speed]"),
        ({"edge": [{"from": "x", "wieght": 1}]}, "write weight"),
        ({"source": {"kind": "broker", "port": 1}}, "correct its name or leave it out"),
    ],
)
def test_a_message_says_how_to_mend_it(data, action):
    with pytest.raises(ConfigError) as refused:
        read(data)

    assert refused.value.action == action


def test_a_place_within_a_file_and_a_file_without_a_table_are_named():
    with pytest.raises(ConfigError, match=r"^unknown key model\.colour;"):
        from_mapping(Edge, {"colour": 1}, where="model")
    with pytest.raises(ConfigError, match=r"^the config = \[1\]; expected a table;"):
        from_mapping(Edge, [1])
    with pytest.raises(ConfigError, match=r"^no source; expected a table; add a \[source\] table"):
        from_mapping(Whole, {})


def test_a_literal_states_its_choices_once():
    assert choices(Whole, "mode") == ("carry", "window")
    check_choices(read({}))
    with pytest.raises(ConfigError, match=r"^mode = 'both'; expected one of carry, window;"):
        check_choices(Whole(Broker("broker"), mode="both"))  # type: ignore[arg-type]


def test_the_reader_needs_the_standard_library_alone(pytestconfig):
    known = "stdlib = set(sys.stdlib_module_names) | {'stunet_deploy', '__main__'}"
    script = f"import sys; before = set(sys.modules); import stunet_deploy.config_mapping; {known}; "
    script += "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - stdlib))"

    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=pytestconfig.rootpath
    )

    assert run.stdout.strip() == "[]"
