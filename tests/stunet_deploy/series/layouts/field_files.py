"""Files as the field gives them out, drawn by hand: stations of the PeMS Clearinghouse and atomic files of LibCity."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

#: What a station of PeMS gives at an interval of the day: percentage observed, flow, occupancy and speed, as text.
Reading = tuple[str, str, str, str]
STATIONS = ("400001", "401817", "1108148")
PLACES = {"400001": (37.364085, -121.901149), "401817": (37.3, -121.95), "1108148": (37.25, -121.8)}


def reading(station: str, slot: int) -> Reading:
    """A day like another, of a mainline station."""
    busy = 40 if slot % 288 in range(84, 114) else 10
    return "100", str(busy + slot % 7 + len(station)), f".{busy * 10 + slot % 9:04d}", f"{70 - busy / 2 + slot % 5:.1f}"


def write_pems(
    folder: Path,
    day: str,
    stations: Sequence[str] = STATIONS,
    give: Callable[[str, int], Reading] = reading,
    minutes: int = 5,
    days: int = 1,
) -> Path:
    """A file of Station 5-Minute (a day) or Station Hour (a month), with two lanes."""
    begin = datetime.fromisoformat(day)
    kind, lane = ("5min", ",10,4,.02,66.1,1") if minutes == 5 else ("hour", ",4,.02,66.1")
    path = folder / f"d04_text_station_{kind}_{begin:%Y_%m_%d}.txt"
    delays = "" if minutes == 5 else ",0,0,0,0,0,0"
    with path.open("w") as file:
        for slot in range(days * 24 * 60 // minutes):
            time = begin + timedelta(minutes=minutes * slot)
            for station in stations:
                observed, flow, occupancy, speed = give(station, slot)
                readings = f"{observed},{flow},{occupancy},{speed}{delays}{lane * 2}"
                file.write(f"{time:%m/%d/%Y %H:%M:%S},{station},4,101,N,ML,.435,80,{readings}\n")
    return path


def write_meta(folder: Path, day: str, places: dict[str, tuple[float, float]] = PLACES) -> Path:
    """A list of stations; one of them has no place, and a name has half a quotation."""
    path = folder / f"d04_text_meta_{day.replace('-', '_')}.txt"
    header = ["ID", "Fwy", "Dir", "District", "County", "City", "State_PM", "Abs_PM", "Latitude", "Longitude", "Length"]
    header += ["Type", "Lanes", "Name"]
    rows = [
        [sensor, "101", "N", "4", "85", "", ".1", "383.1", str(north), str(east), ".4", "ML", "2", '"A" ST, 2" PIPE']
        for sensor, (north, east) in places.items()
    ]
    rows.append(["499999", "101", "N", "4", "85", "", ".1", "383.1", "", "", "", "OR", "1", '"UNPLACED'])
    ids = [f"User_ID_{place}" for place in range(1, 5)]
    lines = ["\t".join([*header, *ids]), *("\t".join([*row, "1", "", "", ""]) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_libcity(folder: Path, name: str = "METR_LA", slots: int = 12, days: int = 1, **info: object) -> Path:
    """States of three sensors, one after the other, with places, distances and settings, as metr_la.py makes them."""
    sensors = {"773869": (34.15497, -118.31829), "767541": (34.11621, -118.23799), "718045": (34.13, -118.25)}
    begin, number = datetime(2012, 3, 1), 0
    with (folder / f"{name}.dyna").open("w") as file:
        file.write("dyna_id,type,time,entity_id,traffic_speed\n")
        for sensor in sensors:
            for slot in range(slots * days):
                time = begin + timedelta(minutes=5 * slot)
                speed = 60 + slot % 9 + int(sensor) % 10 / 10
                file.write(f"{number},state,{time:%Y-%m-%dT%H:%M:%SZ},{sensor},{speed:.3f}\n")
                number += 1
    places = [f'{sensor},Point,"[{east}, {north}]"' for sensor, (north, east) in sensors.items()]
    (folder / f"{name}.geo").write_text("\n".join(["geo_id,type,coordinates", *places, ""]))
    relations = ["0,geo,773869,773869,0.0", "1,geo,773869,767541,2400.5", "2,geo,767541,773869,2500.0"]
    relations += ["3,geo,767541,718045,1200.0", "4,geo,718045,718045,0.0"]
    (folder / f"{name}.rel").write_text("\n".join(["rel_id,type,origin_id,destination_id,cost", *relations, ""]))
    settings = {"data_col": ["traffic_speed"], "weight_col": "cost", "data_files": [name], "geo_file": name} | info
    config = {"geo": {"including_types": ["Point"]}, "info": settings | {"rel_file": name, "time_intervals": 300}}
    (folder / "config.json").write_text(json.dumps(config | {"info": config["info"] | info}))
    return folder / f"{name}.dyna"
