from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.drift import DriftOptions
from runtime.rules import Rule
from runtime.service.config import CsvConfig, EndpointConfig, MqttSourceConfig, read_config
from stunet_deploy.errors import ConfigError
from tests.paths import ROOT

WHOLE = """
log = "json"

[mqtt]
client_id = "controller-7"
port = 8883
tls = true
ca_file = "ca.pem"
username = "controller"
password_file = "/run/secret"

[[stream]]
name = "ring-road"
bundle = "ring-road.bundle"
state = "/var/lib/stunet/ring-road"
mode = "window"
min_observed = 1

[stream.assembler]
period_s = 30
rules = { speed = { weight = "flow" }, flow = { how = "sum" } }

[stream.drift]
days = 2
threshold = 1.5

[stream.source]
kind = "mqtt"
topics = ["detectors/+"]

[[stream.sink]]
kind = "csv"
folder = "forecasts"

[[stream.sink]]
kind = "mqtt"

"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "service.toml"
        path.write_text(text)
        return read_config(path)

    return read


def test_a_config_is_read_whole_and_paths_are_relative_to_it(read, tmp_path):
    config = read(WHOLE)
    (stream,) = config.stream

    assert config.log == "json"
    assert config.mqtt is not None
    assert (config.mqtt.ca_file, config.mqtt.password_file) == (tmp_path / "ca.pem", Path("/run/secret"))
    assert (stream.bundle, stream.state) == (tmp_path / "ring-road.bundle", Path("/var/lib/stunet/ring-road"))
    assert (stream.mode, stream.min_observed, stream.snapshot_every) == ("window", 1.0, 12)
    assert stream.source == MqttSourceConfig("mqtt", ("detectors/+",))
    assert stream.sink[0] == CsvConfig("csv", tmp_path / "forecasts")
    assert stream.assembler is not None
    assert stream.assembler.rules == {"speed": Rule(weight="flow"), "flow": Rule("sum")}
    assert stream.drift == DriftOptions(enabled=True, days=2.0, delta=0.08, threshold=1.5)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('mode = "window"', 'mood = "window"', 'stream "ring-road".mood'),
        ('mode = "window"', 'mode = "both"', "stream \"ring-road\".mode = 'both'"),
        ("min_observed = 1", 'min_observed = "half"', "stream \"ring-road\".min_observed = 'half'"),
        ("min_observed = 1", "min_observed = nan", "min_observed = nan"),
        ("min_observed = 1", "queue = 0", "queue = 0"),
        ("min_observed = 1", "threads = true", "threads = True"),
        ('name = "ring-road"', 'name = "ring road"', "name = 'ring road'"),
        ('name = "ring-road"\n', "", "no stream 1.name"),
        ('kind = "csv"', 'kind = "xml"', "stream \"ring-road\".sink 1.kind = 'xml'"),
        ('kind = "csv"\n', "", "sink 1.kind = None"),
        ('folder = "forecasts"', "folder = 3", "sink 1.folder = 3"),
        ('topics = ["detectors/+"]', 'topics = "detectors/+"', "source.topics = 'detectors/+'"),
        ('topics = ["detectors/+"]', "topics = [1]", "source.topics 1 = 1"),
        ('topics = ["detectors/+"]', "topics = []", "source: topics = []"),
        ('topics = ["detectors/+"]', 'topics = ["detectors/#/speed"]', "topic 'detectors/#/speed'"),
        ('topics = ["detectors/+"]', 'topics = ["detectors/x+"]', "topic 'detectors/x+'"),
        ('topics = ["detectors/+"]', 'topics = ["$share/a"]', "topic '$share/a'"),
        ('topics = ["detectors/+"]', 'topics = ["$share/+/a"]', "topic '$share/+/a'"),
        ('topics = ["detectors/+"]', 'topics = ["$share//a"]', "topic '$share//a'"),
        ('topics = ["detectors/+"]', 'topics = ["$share/a/x+"]', "topic '$share/a/x+'"),
        ('kind = "mqtt"\n\n', 'kind = "mqtt"\ntopic = "all/#"\n', "topic = 'all/#'"),
        ('client_id = "controller-7"', 'client_id = "controller/7"', "client_id = 'controller/7'"),
        ("period_s = 30", 'period_s = "30"', "assembler.period_s = '30'"),
        ('how = "sum"', 'how = "median"', "rules.flow.how = 'median'"),
        ('weight = "flow"', 'weigth = "flow"', "rules.speed.weigth"),
        ("days = 2", "days = 0", "drift: days = 0"),
        ("days = 2", "enabled = 1", "drift.enabled = 1"),
        ("threshold = 1.5", "limit = 1.5", "drift.limit"),
        ("tls = true\n", "", "mqtt: a ca_file"),
        ("port = 8883", "port = 0", "mqtt: port = 0"),
        ('username = "controller"\n', "", "mqtt: a password_file without username"),
        ('log = "json"', 'log = "xml"', "log = 'xml'"),
        ("[mqtt]", "[mqqt]", "mqqt"),
        ("[[stream]]", "[stream]", "stream = "),
    ],
)
def test_a_mistake_is_refused_with_the_key_that_has_it(read, old, new, named):
    assert old in WHOLE
    with pytest.raises(ConfigError) as refused:
        read(WHOLE.replace(old, new))

    assert named in refused.value.came


@pytest.mark.parametrize(
    ("old", "new", "came", "action"),
    [
        (
            'rules = { speed = { weight = "flow" }, flow = { how = "sum" } }',
            'rules = { speed = "mean" }',
            "stream \"ring-road\".assembler.rules.speed = 'mean'",
            "write it as [stream.assembler.rules.speed]",
        ),
        (WHOLE[WHOLE.index("[[stream]]") :], "", "no stream", "add a [[stream]] table"),
        ("[[stream]]", "[stream]", "stream = ", "write it as [[stream]]"),
        ('[stream.source]\nkind = "mqtt"\ntopics = ["detectors/+"]\n', "", ".source", "add a [stream.source] table"),
        (WHOLE[WHOLE.index("[[stream.sink]]") :], "", ".sink", "add a [[stream.sink]] table"),
        (WHOLE[WHOLE.index("[[stream.sink]]") :], "[stream.sink]", ".sink = ", "write it as [[stream.sink]]"),
    ],
)
def test_a_table_that_is_missing_or_none_is_advised_as_toml_writes_it(read, old, new, came, action):
    assert old in WHOLE
    with pytest.raises(ConfigError) as refused:
        read(WHOLE.replace(old, new))

    assert came in refused.value.came
    assert refused.value.action.startswith(action)
    assert "None" not in refused.value.expected


def test_the_rules_of_the_documents_mean_what_they_say(read):
    document = (ROOT / "docs" / "reference" / "service-config.md").read_text()
    (line,) = re.findall(r"^In one line `(rules = .*)`, or as tables", document, re.M)
    (tables,) = re.findall(r"^    \[stream\.assembler\.rules.*?(?=^\S)", document, re.M | re.S)
    rules = 'rules = { speed = { weight = "flow" }, flow = { how = "sum" } }\n'

    for written in (WHOLE.replace(rules, f"{line}\n"), WHOLE.replace(rules, tables.replace("    ", ""))):
        assert written.count("flow") >= 2
        (stream,) = read(written).stream
        assert stream.assembler.rules == {"speed": Rule(weight="flow"), "flow": Rule("sum")}


def test_streams_that_would_disturb_each_other_are_refused(read):
    stream = WHOLE[WHOLE.index("[[stream]]") :]
    head = WHOLE[: WHOLE.index("[[stream]]")]

    for second, named in [
        (stream, "one name"),
        (stream.replace('"ring-road"', '"other"'), "one state folder"),
    ]:
        with pytest.raises(ConfigError, match=named):
            read(head + stream + second)
    stdin = stream.replace('kind = "mqtt"\ntopics = ["detectors/+"]', 'kind = "stdin"')
    with pytest.raises(ConfigError, match="all read stdin"):
        read(head + stdin + stdin.replace("ring-road", "other"))


def test_a_broker_is_needed_where_mqtt_is_used_and_a_file_where_there_is_none(read, tmp_path):
    with pytest.raises(ConfigError, match="kind 'mqtt'"):
        read(WHOLE[WHOLE.index("[[stream]]") :])
    with pytest.raises(ConfigError, match=r"nothing\.toml"):
        read_config(tmp_path / "nothing.toml")


def test_the_config_of_the_documents_is_one(read):
    document = (ROOT / "docs" / "guide" / "operations.md").read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```", document, re.M | re.S)
    config = read(text)

    assert config.http == EndpointConfig(8080, "127.0.0.1")
    assert [type(sink).__name__ for sink in config.stream[0].sink] == ["MqttSinkConfig", "CsvConfig"]
