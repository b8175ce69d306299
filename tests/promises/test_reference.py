"""The pages that list fields, options and examples list those that there are."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from runtime.aggregation import Assembler, AssemblyCounters
from runtime.counters import REFUSALS, Counters
from runtime.forecast import Forecast
from runtime.messages import Detection, Record, read_message
from runtime.options import StreamOptions
from runtime.service import config as service
from runtime.stream import Stream
from stunet_deploy import cli
from stunet_deploy.bundle import Golden
from stunet_deploy.config import VARIANTS, RunConfig, SRNNConfig, STUNetConfig, TrainingConfig
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.graph.files import read_graph
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.series import read_series
from stunet_deploy.site import Site
from tests.paths import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def page(name: str) -> str:
    (path,) = ROOT.glob(f"docs/**/{name}.md")
    return path.read_text(encoding="utf-8")


def row(text: str, field: str) -> str:
    """The table row whose first cell names a field."""
    found = re.findall(rf"^\| `{field}` \|.*$", text, re.M)
    assert len(found) == 1, f"{len(found)} rows for `{field}`"
    return str(found[0])


def settings() -> Iterator[tuple[type[Any], str]]:
    for config in (RunConfig, STUNetConfig, TrainingConfig, SRNNConfig):
        for name, hint in get_type_hints(config).items():
            if not is_dataclass(hint):
                yield config, name


@pytest.mark.parametrize(("config", "name"), list(settings()), ids=lambda part: getattr(part, "__name__", part))
def test_a_setting_has_its_row_with_default_and_choices(config: type[Any], name: str) -> None:
    text = row(page("srnn" if config is SRNNConfig else "training"), name)

    default = re.split(r"(?<!\\)\|", text)[2].strip().strip("`")
    assert from_json(json.loads(default)) == getattr(config(), name)
    hint = get_type_hints(config)[name]
    if get_origin(hint) is Literal:
        assert set(re.findall(r'`"(\w+)"`', text)) == set(get_args(hint))


def from_json(value: Any) -> Any:
    return tuple(from_json(entry) for entry in value) if isinstance(value, list) else value


def test_the_variants_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\S+) \| `(\[\[.*\]\])` \| `(true|false)` \|$", page("model"), re.M)

    built = {
        name: from_mapping(STUNetConfig, {"scales": json.loads(scales), "skip": json.loads(skip)})
        for name, scales, skip in rows
    }
    assert built == {name: from_mapping(STUNetConfig, variant) for name, variant in VARIANTS.items()}


@pytest.mark.parametrize("kind", [Manifest, Site, Golden], ids=lambda kind: kind.__name__)
def test_the_bundle_page_names_every_field(kind: type[Any]) -> None:
    text = page("bundle")

    names = {field.name for field in fields(kind)} - {"site"}  # its fields stand in the manifest one by one
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_the_streaming_page_names_every_field_and_option() -> None:
    text = page("streaming") + page("deploy")
    properties = [name for name, value in vars(Forecast).items() if isinstance(value, property)]
    options = [name for name in inspect.signature(Stream.open).parameters if name != "bundle"]
    counted = [field.name for kind in (Counters, AssemblyCounters) for field in fields(kind)]
    gathering = [name for name in inspect.signature(Assembler).parameters if name != "manifest"]

    options += [field.name for field in fields(StreamOptions)]
    wanted = [*(field.name for field in fields(Forecast)), *properties, *options, *counted, *REFUSALS, *gathering]
    assert [name for name in wanted if f"`{name}`" not in text] == []


def test_the_page_on_the_service_config_names_every_key() -> None:
    text = page("service-config")
    kinds = [kind for kind in vars(service).values() if is_dataclass(kind) and kind.__module__ == service.__name__]
    keys = [field.name for kind in kinds if kind is not service.ServiceConfig for field in fields(kind)]

    assert "client_id" in keys
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_the_examples_of_a_service_are_read(tmp_path: Path) -> None:
    (config,) = re.findall(r"^```toml\n(.*?)^```", page("operations"), re.M | re.S)
    (tmp_path / "service.toml").write_text(config)
    messages = [read_message(line) for line in re.findall(r"^```json\n(.*?)^```", page("messages"), re.M | re.S)]

    assert [stream.name for stream in service.read_config(tmp_path / "service.toml").stream] == ["ring-road"]
    assert [type(message) for message in messages] == [Record, Detection]


@pytest.mark.parametrize("verb", cli.VERBS, ids=lambda verb: verb.__name__.rpartition(".")[2])
def test_the_command_line_page_has_every_verb_and_option(verb: Any) -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page("cli"), re.M | re.S))
    parser = argparse.ArgumentParser(add_help=False)
    verb.add_arguments(parser)
    options = [option for action in parser._actions for option in action.option_strings]

    section = sections[verb.__name__.rpartition(".")[2]]
    assert [option for option in options if option not in section] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_a_heading_find_it(document: Path) -> None:
    links = re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", document.read_text(encoding="utf-8"))

    missing = [f"{name}#{anchor}" for name, anchor in links if anchor not in anchors(document.parent / name, document)]
    assert missing == []


def anchors(target: Path, document: Path) -> set[str]:
    """Anchors of a page's headings: lower case, punctuation dropped, spaces to hyphens."""
    text = (document if target.is_dir() else target).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A folder with the example files of the page on one's own network."""
    for name, content in re.findall(r"^```\w+ (\S+)\n(.*?)^```", page("own-network"), re.M | re.S):
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_the_example_recordings_are_read(examples: Path) -> None:
    wide = read_series(examples / "speeds.csv", timezone="Europe/Berlin")
    long = read_series(examples / "counts.csv", timezone="Europe/Berlin")

    assert wide.sensor_ids == ("A1", "A2", "A3")
    assert wide.observed.sum() == 7
    assert (long.features, long.interval_s) == (("speed", "flow"), 300)
    assert long.timestamps[0] == wide.timestamps[0]
    assert long.observed.sum() == 5


@pytest.mark.parametrize("name", ["roads.csv", "positions.csv"])
def test_the_example_graphs_are_read(examples: Path, name: str) -> None:
    graph = read_graph(examples / name, ("A1", "A2", "A3"))

    assert not graph.adjacency.isolated.any()


def test_the_example_config_is_read(examples: Path) -> None:
    from stunet_deploy.config_files import read_run_config

    config = read_run_config(examples / "config.toml")

    assert (config.targets, config.model.hidden, config.training.epochs) == (("speed",), 32, 40)


@pytest.mark.parametrize("config", sorted((ROOT / "benchmarks" / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_the_configs_of_the_benchmarks_are_read(config: Path) -> None:
    from stunet_deploy.config_files import read_run_config

    assert read_run_config(config, "srnn" if config.stem.endswith("-srnn") else "stunet").training != TrainingConfig()
