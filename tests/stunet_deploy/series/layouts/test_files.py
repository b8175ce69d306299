"""Every file layout that can be read, and damaged files that must be refused with a reason."""

import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stunet_deploy.data_files import read_data_file
from stunet_deploy.errors import DataError
from stunet_deploy.series.series import read_series
from stunet_deploy.series.times import parse_time
from tests.paths import DATA, ROOT

h5py = pytest.importorskip("h5py")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

needs_data = pytest.mark.skipif(not (DATA / "metr-la.npz").is_file(), reason=f"no public data in {DATA}")

WIDE = """time,773869,"sensor, two",x3
2012-03-01T00:00,61.5,0,
2012-03-01T00:05,62,NaN,3
2012-03-01T00:10,n/a,1e99,4
"""
WIDE_VALUES = np.array([[61.5, 0, np.nan], [62, np.nan, 3], [np.nan, np.nan, 4]], np.float32)


def readings(path: Path, **options: str) -> np.ndarray:
    series = read_series(path, **options)  # type: ignore[arg-type]
    assert series.values.dtype == np.float32
    assert (series.values[~series.observed] == 0).all()
    return np.where(series.observed, series.values, np.nan)


def own_npz(path: Path, **changes: object) -> Path:
    content: dict[str, object] = {
        "values": np.array([[[615, 20], [0, 30]], [[620, 21], [630, 31]]], np.int16),
        "scale": np.array([0.1, 1.0]),
        "observed": np.array([[[1, 1], [0, 1]], [[1, 1], [1, 0]]], np.bool_),
        "timestamps": np.array([1_330_560_000, 1_330_560_300]),
        "sensor_ids": np.array(["a", "b"]),
        "features": np.array(["speed", "flow"]),
        "units": np.array(["km/h", "veh/h"]),
        "timezone": np.array("Europe/Berlin"),
        "interval_s": np.array(300),
        "latitude": np.array([52.5, 52.6]),
        "longitude": np.array([13.4, 13.5]),
        "meta": np.array(json.dumps({"dataset": "simulated ring road"})),
    } | changes
    np.savez_compressed(path, **{key: value for key, value in content.items() if value is not None})
    return path


def pandas_h5(path: Path, *, key: str = "df", kind: str = "datetime64", ticks_per_s: int = 10**9) -> Path:
    """The bytes that matter of a frame written by pandas in the fixed format."""
    values = np.array([[60.0, 0.0], [61.0, 62.0], [np.nan, 63.0]])
    with h5py.File(path, "w") as file:
        group = file.create_group(key)
        group["axis0"] = group["block0_items"] = np.array([b"773869", b"767541"])
        group["axis1"] = (1_330_560_000 + 300 * np.arange(3)) * ticks_per_s
        group["axis1"].attrs["kind"] = np.bytes_(kind)
        group["block0_values"] = values
    return path


def test_own_csv_in_wide_form(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(WIDE)
    series = read_series(path)
    assert series.sensor_ids == ("773869", "sensor, two", "x3")
    assert (series.features, series.interval_s, series.timezone) == (("speed",), 300, "UTC")
    assert series.timestamps.tolist() == [1_330_560_000, 1_330_560_300, 1_330_560_600]
    np.testing.assert_array_equal(readings(path)[..., 0], WIDE_VALUES)


@pytest.mark.parametrize("encode", [lambda text: text.replace("\n", "\r\n").encode(), lambda t: t.encode("utf-8-sig")])
def test_windows_line_ends_and_byte_order_mark(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(encode(WIDE + "\n"))
    np.testing.assert_array_equal(readings(path)[..., 0], WIDE_VALUES)


def test_own_csv_with_epoch_seconds(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("t,a,b\n1330560000,1,2\n1330560060.0,3,4\n")
    series = read_series(path, timezone="America/Los_Angeles")
    assert series.timestamps.tolist() == [1_330_560_000, 1_330_560_060]
    assert series.interval_s == 60


def test_own_csv_in_long_form_in_any_row_order(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        "sensor_id,timestamp,speed,flow\n"
        "b,2012-03-01 00:05:00Z,4,40\n"
        "b,2012-03-01 00:00:00Z,3,30\n"
        "a,2012-03-01 00:05:00Z,2,\n"
    )
    series = read_series(path)
    assert (series.sensor_ids, series.features) == (("b", "a"), ("speed", "flow"))
    np.testing.assert_array_equal(readings(path), [[[3, 30], [np.nan, np.nan]], [[4, 40], [2, np.nan]]])


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_own_parquet(tmp_path: Path, zone: str | None) -> None:
    times = pyarrow.array([1_330_560_000 * 1000, 1_330_560_300 * 1000], pyarrow.timestamp("ms", zone))
    table = pyarrow.table({"a": [1.0, None], "time": times, "b": [3, 4]})
    parquet.write_table(table, tmp_path / "own.parquet")
    series = read_series(tmp_path / "own.parquet", timezone="America/Los_Angeles")
    shift = 0 if zone else 8 * 3600
    assert series.timestamps.tolist() == [1_330_560_000 + shift, 1_330_560_300 + shift]
    assert series.sensor_ids == ("a", "b")
    np.testing.assert_array_equal(readings(tmp_path / "own.parquet")[..., 0], [[1, 3], [np.nan, 4]])


def test_own_parquet_in_long_form(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "timestamp": ["2012-03-01T00:00", "2012-03-01T00:00", "2012-03-01T00:05"],
            "sensor_id": [7, 8, 7],
            "value": [1.5, 2.5, 3.5],
        }
    )
    parquet.write_table(table, tmp_path / "own.parquet")
    assert read_series(tmp_path / "own.parquet").sensor_ids == ("7", "8")
    np.testing.assert_array_equal(readings(tmp_path / "own.parquet")[..., 0], [[1.5, 2.5], [3.5, np.nan]])


@pytest.mark.parametrize("damaged", [b"2012-03-01T00:05", b"sensor-7"], ids=["times", "ids"])
def test_parquet_with_text_that_is_none_is_refused(tmp_path: Path, damaged: bytes) -> None:
    columns = {
        "timestamp": ["2012-03-01T00:00", "2012-03-01T00:05"],
        "sensor_id": ["sensor-7"] * 2,
        "value": [1.0, 2.0],
    }
    path = tmp_path / "own.parquet"
    parquet.write_table(pyarrow.table(columns), path, compression="none", use_dictionary=False, write_statistics=False)
    content = path.read_bytes()
    assert damaged in content
    path.write_bytes(content.replace(damaged, b"\xb0" + damaged[1:]))
    with pytest.raises(DataError, match="damaged Parquet"):
        read_series(path)


def test_own_npz(tmp_path: Path) -> None:
    series = read_series(own_npz(tmp_path / "own.npz"))
    assert (series.timezone, series.interval_s, series.stamp) == ("Europe/Berlin", 300, "start")
    assert (series.features, series.units) == (("speed", "flow"), ("km/h", "veh/h"))
    assert series.latitude == (52.5, 52.6)
    assert "simulated ring road" in series.source
    np.testing.assert_allclose(
        readings(tmp_path / "own.npz"), [[[61.5, 20], [np.nan, 30]], [[62, 21], [63, np.nan]]], rtol=1e-6
    )
    assert read_series(own_npz(tmp_path / "end.npz", stamp=np.array("end"))).stamp == "end"


@pytest.mark.parametrize("with_times", [False, True])
def test_npz_of_one_speed_matrix(tmp_path: Path, with_times: bool) -> None:
    content = {
        "speed": np.array([[60, 61], [62, 63], [64, np.nan]], np.float32),
        "observed": np.array([[1, 0], [-1, 1], [1, 1]], np.int8),
        "sensor_ids": np.array(["773869", "767541"]),
        "adjacency": np.eye(2),
        "meta": np.array(json.dumps({"start": "2012-03-01T00:00", "freq_minutes": 5, "unit": "mph"})),
    }
    if with_times:
        content["timestamps"] = np.array(["2012-03-01T00:00", "2012-03-01T00:05", "2012-03-01T00:10"])
    np.savez(tmp_path / "week.npz", **content)
    series = read_series(tmp_path / "week.npz", timezone="America/Los_Angeles")
    assert series.timestamps.tolist() == [parse_time("2012-03-01T08:00Z") + 300 * row for row in range(3)]
    assert series.units == ("mph",)
    np.testing.assert_array_equal(readings(tmp_path / "week.npz")[..., 0], [[60, np.nan], [62, 63], [64, np.nan]])


@pytest.mark.parametrize(
    ("key", "kind", "ticks"),
    [
        ("df", "datetime64", 10**9),
        ("speed", "datetime64[ns]", 10**9),
        ("df", "datetime64[us]", 10**6),
        ("df", "datetime64[s]", 1),
    ],
)
def test_pandas_h5_of_any_age(tmp_path: Path, key: str, kind: str, ticks: int) -> None:
    path = pandas_h5(tmp_path / "metr-la.h5", key=key, kind=kind, ticks_per_s=ticks)
    series = read_series(path)
    assert series.timestamps.tolist() == [1_330_560_000, 1_330_560_300, 1_330_560_600]
    assert series.sensor_ids == ("773869", "767541")
    np.testing.assert_array_equal(readings(path)[..., 0], [[60, np.nan], [61, 62], [np.nan, 63]])


def test_pemsd7_csv_keeps_its_first_row_and_skips_weekends(tmp_path: Path) -> None:
    path = tmp_path / "PeMSD7_V_3.csv"
    rows = np.round(np.random.default_rng(0).uniform(20, 80, (5 * 288, 3)), 1)
    rows[0] = [60, 61, 62]  # whole numbers, as a header of sensor ids would be
    np.savetxt(path, rows, delimiter=",", fmt="%g")
    series = read_series(path)
    np.testing.assert_allclose(series.values[..., 0], rows, rtol=1e-6)
    assert series.sensor_ids == ("0", "1", "2")
    assert series.timestamps[0] == parse_time("2012-05-01")
    assert series.segments() == [slice(0, 4 * 288), slice(4 * 288, 5 * 288)]
    assert series.timestamps[4 * 288] == parse_time("2012-05-07")
    assert "assumed the weekdays from 2012-05-01" in series.source


def test_los_speed_csv_has_ids_but_no_times(tmp_path: Path) -> None:
    path = tmp_path / "los_speed.csv"
    path.write_text("773869,767541\n64.375,67.625\n62.667,\n")
    series = read_series(path)
    assert series.sensor_ids == ("773869", "767541")
    assert series.timestamps[0] == parse_time("2012-03-01")
    assert "assumed every 5 min from 2012-03-01" in series.source
    np.testing.assert_allclose(readings(path)[..., 0], [[64.375, 67.625], [62.667, np.nan]], rtol=1e-6)


def test_sensors_without_any_reading_are_kept_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("time,a,b\n2012-03-01T00:00,,1\n2012-03-01T00:05,,2\n")
    series = read_series(path)
    assert series.sensor_ids == ("a", "b")
    assert not series.observed[:, 0].any()
    assert "1 of 2 sensors without a single reading" in series.source


def csv_bytes(body: str, header: str = "time,a,b") -> bytes:
    return f"{header}\n{body}\n".encode()


# More of them: test_damaged_files.py.
DAMAGED: dict[str, tuple[bytes, str]] = {
    "latin-1": ("time,Brücke\n2012-03-01T00:00,1\n".encode("latin-1"), "no UTF-8 text"),
    "hours since 1970": (csv_bytes("369600,1,2\n369601,1,2"), "from 1995 to 2039"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_text_and_foreign_files_are_refused(tmp_path: Path, name: str) -> None:
    content, message = DAMAGED[name]
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){message}"):
        read_series(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": None}, "with the keys features"),
        ({"scale": np.array([0.1])}, "one scale per feature"),
        ({"observed": np.ones((2, 2), np.bool_)}, "values and observed"),
        ({"timestamps": np.array([1_330_560_000])}, "readings of shape"),
        ({"timestamps": np.array([1_330_560_000, 1_330_560_301])}, "whole intervals of 300 s"),
        ({"sensor_ids": np.array(["a", "a"])}, "'a' more than once"),
        ({"sensor_ids": np.array(["a", "b"], object)}, "damaged npz"),
        ({"stamp": np.array("middle")}, "'middle'"),
        ({"timezone": np.array("Mars/Olympus")}, "Mars/Olympus"),
        ({"meta": np.array("{")}, "damaged npz"),
        ({"observed": np.zeros((2, 2, 2), np.bool_)}, "without a single reading"),
    ],
)
def test_a_faulty_npz_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_series(own_npz(tmp_path / "own.npz", **changes))


def test_a_path_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_series(tmp_path / "absent.csv")


def test_pemsd7_copy_that_lost_its_first_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "PeMSD7_V_2.csv"
    np.savetxt(path, np.full((287, 2), 60.0), delimiter=",")
    with pytest.raises(DataError, match=r"287 rows.*whole days of 288"):
        read_series(path)


def test_h5_that_is_no_frame_or_has_a_foreign_index(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros((2, 2))
    with pytest.raises(DataError, match=r"0 pandas frame\(s\), keys data"):
        read_series(tmp_path / "other.h5")
    with pytest.raises(DataError, match="index of kind 'integer'"):
        read_series(pandas_h5(tmp_path / "index.h5", kind="integer"))
    with pytest.raises(DataError, match="nanoseconds"):
        read_series(pandas_h5(tmp_path / "unit.h5", kind="datetime64[ns]", ticks_per_s=10**6))


def write_parquet(path: Path) -> Path:
    times = pyarrow.array([1_330_560_000, 1_330_560_300], pyarrow.timestamp("s"))
    parquet.write_table(pyarrow.table({"time": times, "a": [1.0, 2.0]}), path)
    return path


@pytest.mark.parametrize("make", [own_npz, pandas_h5, write_parquet])
def test_cut_or_altered_bytes_never_escape_as_another_error(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    whole = make(tmp_path / "whole.npz").read_bytes()  # numpy insists on the suffix, the reader does not
    rng = np.random.default_rng(7)
    path = tmp_path / "damaged"
    refused = 0
    for trial in range(120):
        damaged = bytearray(whole)
        if trial % 2:
            del damaged[int(rng.integers(8, len(whole))) :]
        else:
            for place in rng.integers(0, len(whole), 6):
                damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            read_series(path)
        except DataError:
            refused += 1
    assert refused >= 60


def test_reading_csv_and_npz_needs_numpy_alone(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(WIDE)
    own_npz(tmp_path / "own.npz")
    script = (
        "import sys\n"
        "for name in ('h5py', 'pyarrow', 'torch', 'scipy', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        "from stunet_deploy.series.series import read_series\n"
        "import training.evaluation\n"
        f"read_series({str(tmp_path / 'own.csv')!r}); read_series({str(tmp_path / 'own.npz')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("module", "suffix"), [("h5py", ".h5"), ("pyarrow", ".parquet")])
def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, suffix: str) -> None:
    path = (pandas_h5 if module == "h5py" else write_parquet)(tmp_path / f"own{suffix}")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match="pip install .*" + {"h5py": "h5py", "pyarrow": "parquet"}[module]):
        read_series(path)


@needs_data
def test_the_metr_la_week_in_three_layouts_agrees() -> None:
    week = read_series(DATA / "metr-la.npz")
    assert week.values.shape == (2016, 207, 1)
    assert int((~week.observed).sum()) == 5850
    h5 = read_series(DATA / "layouts" / "metr-la.h5")
    assert h5.sensor_ids == week.sensor_ids
    np.testing.assert_array_equal(h5.timestamps, week.timestamps[:576])
    np.testing.assert_array_equal(h5.observed, week.observed[:576])
    np.testing.assert_allclose(h5.values, week.values[:576], atol=0.05)
    text = read_series(DATA / "layouts" / "los_speed.csv")
    assert text.sensor_ids == week.sensor_ids
    np.testing.assert_array_equal(text.timestamps, week.timestamps)
    np.testing.assert_allclose(text.values[week.observed], week.values[week.observed], atol=0.05)


@needs_data
def test_the_pemsd7_week_in_two_layouts_agrees() -> None:
    week = read_series(DATA / "pemsd7-m.npz")
    text = read_series(DATA / "layouts" / "PeMSD7_V_228.csv")
    assert week.values.shape == (2016, 228, 1)
    np.testing.assert_array_equal(text.timestamps, week.timestamps)
    np.testing.assert_allclose(text.values, week.values, atol=1e-5)
    assert week.segments() == [slice(0, 4 * 288), slice(4 * 288, 7 * 288)]


@needs_data
def test_graph_files_given_as_readings_are_refused() -> None:
    names = ["PEMS04.csv", "PEMS03.txt", "PeMSD7_W_228.csv", "adj_mx.pkl", "distances_bay_2017.csv"]
    names += ["graph_sensor_locations.csv", "PeMSD7_M_Station_Info.csv", "los_adj.csv"]
    for name in names:
        with pytest.raises(DataError):
            read_series(DATA / "layouts" / name)


@pytest.mark.parametrize("form", ["gz", "zip"])
@pytest.mark.parametrize("make", [own_npz, pandas_h5, write_parquet])
def test_a_binary_file_may_be_packed(make: Callable[..., Path], form: str, tmp_path: Path) -> None:
    path = make(tmp_path / "speeds.npz")
    expected = read_series(path)
    packed = tmp_path / f"packed.{form}"
    if form == "gz":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    else:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
    found = read_series(packed)
    assert_array_equal(found.values, expected.values)
    assert found.sensor_ids == expected.sensor_ids
    assert read_data_file(packed).kind.startswith("recording")


@pytest.mark.parametrize("form", ["gz", "zip"])
def test_a_compressed_text_may_not_unpack_to_far_more_than_it_is(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "\n".join(["time,7", *(f"{1_330_588_800 + 300 * row},60" for row in range(5000)), ""]).encode()
    path = tmp_path / f"speeds.csv.{form}"
    if form == "gz":
        path.write_bytes(gzip.compress(lines))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("speeds.csv", lines)
    assert len(read_series(path).values) == 5000

    monkeypatch.setattr("stunet_deploy.limits.FREE_TEXT", 1000)
    monkeypatch.setattr("stunet_deploy.limits.TEXT_HELD", 2)
    with pytest.raises(DataError, match=r"MB that unpack to .* MB or more; .*unpack it"):
        read_series(path)


def test_a_table_whose_readings_lie_apart_is_read_as_one_whose_readings_do_not(tmp_path: Path) -> None:
    path = tmp_path / "speeds.csv"
    path.write_text("a,timestamp,b\n1,2012-03-01T00:00,2\n3,2012-03-01T00:05,\n")
    assert_array_equal(readings(path)[..., 0], [[1, 2], [3, np.nan]])
    path.write_text("timestamp,,a\n2012-03-01T00:00,,2\n2012-03-01T00:05,,3\n")
    assert_array_equal(readings(path)[..., 0], [[2], [3]])


def test_a_text_that_goes_on_without_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stunet_deploy.series.layouts.delimited.MOST_LINES", 20)
    rows = "time,7\n" + "".join(f"{1_330_588_800 + 300 * row},60\n" for row in range(5))
    path = tmp_path / "speeds.csv"
    path.write_text(rows + "\n" * 20)
    assert len(read_series(path).values) == 5
    path.write_text(rows + "\n" * 21)
    with pytest.raises(DataError, match=r"more than 20 empty lines from line 7 on.*export it again"):
        read_series(path)
