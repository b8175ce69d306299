"""What a file of readings leaves unsaid: names and units of its readings, and the codes that stand for none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stunet_deploy.errors import DataError
from stunet_deploy.series.layouts.table import FileTable
from stunet_deploy.site import Site

#: What readings are called where neither the file nor the user names them.
USUAL_NAME = "speed"


@dataclass(frozen=True)
class Facts:
    """What the user knows of a recording beside its file.

    Attributes:
        feature: name of the readings in a file that names none, such as a table of one column per sensor; empty for
            ``speed``.
        units: by feature, of those whose unit the file does not tell; the key "" is for every feature.
        no_data: by feature, the numbers that stand for no reading; the key "" is for every feature.
        timezone: of wall-clock times in a file that names no zone; empty for UTC.
        said: whether somebody says so of this very file, which must then not say otherwise.
    """

    feature: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    no_data: Mapping[str, Sequence[float]] = field(default_factory=dict)
    timezone: str = ""
    said: bool = True

    @classmethod
    def of(cls, site: Site) -> Facts:
        """Return what a model of a site takes a recording for, where its file does not tell."""
        return cls(site.features[0] if len(site.features) == 1 else "", timezone=site.timezone, said=False)

    def named(self, table: FileTable) -> FileTable:
        """Return a table whose readings have names and, where they are known, units.

        Raises:
            DataError: the file names its readings or units otherwise, or has no feature of the name given.
        """
        if not table.features:
            name = self.feature or USUAL_NAME
            note = () if self.feature else (f"readings called {name}, as the file names none",)
            table = replace(table, features=(name,), notes=(*table.notes, *note))
        elif self.said and self.feature and self.feature not in table.features:
            raise DataError(
                f"the feature {self.feature!r} for {table.name}, which names its readings {', '.join(table.features)}",
                "a name for the readings of a file that has none",
                "leave it out, or choose what to forecast with --targets",
            )
        _check_names(table, self.units)
        units = list(table.units)
        for place, name in enumerate(table.features):
            said = self.units.get(name, self.units.get("", ""))
            if said and units[place] not in ("", said):
                raise DataError(
                    f"the unit {said!r} of {name} in {table.name}, which says {units[place]!r}",
                    "a unit where the file tells none",
                    "leave it out, or convert the readings",
                )
            units[place] = said or units[place]
        return replace(table, units=tuple(units))

    def codes(self, table: FileTable) -> tuple[tuple[float, ...], ...]:
        """Return the codes for no reading of each feature of a table; empty where there are none at all.

        Raises:
            DataError: the table has no feature of a name that codes are given for.
        """
        _check_names(table, self.no_data)
        for_all = self.no_data.get("", ())
        found = tuple(tuple(map(float, (*for_all, *self.no_data.get(name, ())))) for name in table.features)
        return found if any(found) else ()


def _check_names(table: FileTable, named: Mapping[str, object]) -> None:
    unknown = [name for name in named if name and name not in table.features]
    if unknown:
        raise DataError(
            f"the feature {unknown[0]!r}, which {table.name} does not have",
            f"one of {', '.join(table.features)}",
            "correct the name",
        )
