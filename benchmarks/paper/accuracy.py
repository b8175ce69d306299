"""The tables of errors, 1 to 3: their options, their runs, and their page."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.harness.command import Command
from benchmarks.harness.page import commit, machine, number, page, table
from benchmarks.harness.store import Run, Store
from benchmarks.harness.workbench import SHARED
from benchmarks.paper.published import Published
from benchmarks.paper.recordings import SETS, PaperSet, find_all, small
from benchmarks.paper.rows import LIBRARIES, Budget, Row, identify, run

MEASURES = ("mae", "mape", "rmse")
HORIZONS = [15.0, 30.0, 60.0]
REGIMES = {"window": "windows", "stream": "carried"}


@dataclass(frozen=True)
class AccuracyTable:
    """A table of the paper.

    Attributes:
        number: in the paper.
        title: of its page.
        sets: that it is of.
        rows: of every set.
        published: by set, then by model.
        note: on the page, beside what every table says.
    """

    number: int
    title: str
    sets: tuple[PaperSet, ...]
    rows: tuple[Row, ...]
    published: Mapping[str, Mapping[str, Published]]
    note: str = ""

    @property
    def page(self) -> str:
        """Name of its page."""
        return f"paper_table{self.number}"

    def main(self, doc: str | None, arguments: Sequence[str] | None = None) -> None:
        """Do the runs that are missing and write the table."""
        command = Command(f"benchmarks.paper.table{self.number}", doc, self.page)
        names = [row.title for row in self.rows]
        command.option("--data", SHARED, "folder of the recordings, whole or a week (default: STUNET_DATA)")
        command.option("--row", tuple(names), "which models, by the titles of their rows", choices=names)
        command.option("--seeds", 3, "number of seeds of a model that is random", quick=1)
        command.option("--minutes", 10.0, "CPU time of a fit, where it takes what it is given; 0: no limit", quick=0.01)
        command.option("--paper-minutes", 60.0, "that of preset paper, the widest by far; 0: no limit", quick=0.01)
        command.option("--epochs", 0, "passes over the training span at most; 0: those of the preset, the paper's 80")
        command.option("--jobs", 2, "runs at a time, one thread each")
        command.run(self.measure, self.report, arguments)

    def measure(self, options: Namespace) -> dict[str, Any]:
        """Do the runs that are not stored and return all."""
        store = Store(options.out / f"{self.page}.json")
        recordings = [small(options.out / "data")] if options.quick else find_all(self.sets, Path(options.data))
        wanted = [
            (recording, row, seed, budget_of(row, vars(options)))
            for seed in range(options.seeds)
            for recording in recordings
            for row in self.rows
            if row.title in options.row and (row.random or seed == 0)
        ]
        store.complete(wanted, identify, run, options.jobs, lambda one: f"{one['set']}, {one['row']}: {_summary(one)}")
        sets = {
            one.name: {"title": one.title, "rows": identify(one, self.rows[0], 0, Budget(0, 0))["rows"]}
            for one in recordings
        }
        limits = {name: getattr(options, name) for name in ("minutes", "paper_minutes", "epochs")}
        return {**limits, "sets": sets, "runs": store.runs}

    def report(self, result: Mapping[str, Any]) -> str:
        """Return the table as a page."""
        budgets = {row.title: asdict(budget_of(row, result)) for row in self.rows}
        runs = [one for one in result["runs"] if one["row"] in budgets and budgets[one["row"]].items() <= one.items()]
        blocks, shown = [], list[Run]()
        for name, known in result["sets"].items():
            of_set = [one for one in runs if (one["set"], one["rows"]) == (name, known["rows"])]
            whole = name in SETS and known["rows"] == SETS[name].rows
            blocks += [f"## {known['title']}", self._table(of_set, self.published.get(name, {}), whole)]
            shown += of_set
        if any(one.name in result["sets"] for one in self.sets):
            for one in self.sets:
                if one.name not in result["sets"]:
                    blocks += [f"## {one.title}: no series at hand", self._table([], self.published[one.name], True)]
        if not shown:
            return page(self.title, f"`{result['command']}`: no runs of these options are kept.")
        commits = sorted({commit(one["environment"]) for one in shown})
        return page(
            self.title,
            f"`{result['command']}`: {_limits(result)}, one thread. {machine(shown[-1]['environment'], *LIBRARIES)} "
            f"Runs of commit {', '.join(commits)}.",
            "Cells are MAE / MAPE in % / RMSE over observed labels, ± the standard deviation over seeds. Every model "
            "is fitted on the training span, what is chosen is chosen on the validation span, and it is scored once on "
            "the test span. *windows*: from zero state over 12 intervals, as in the literature; *carried*: with the "
            "state since the day before, as deployed. Published rows were trained and tested on the full set: beside a "
            "part of it they are not comparable. A dash is what is not known, or not counted.",
            self.note,
            *blocks,
        )

    def _table(self, runs: Sequence[Run], published: Mapping[str, Published], whole: bool) -> str:
        horizons = sorted({score["horizon_minutes"] for one in runs for score in one["results"]}) or HORIZONS
        mark = "*published*" if whole else "*published, full set: not comparable*"
        rows, cited = list[list[str]](), set[str]()
        for row in self.rows:
            found = [one for one in runs if one["row"] == row.title]
            for regime in row.regimes if found else ():
                scores = [one for run in found for one in run["results"] if one["protocol"] == regime]
                cells = [errors(one for one in scores if one["horizon_minutes"] == at) for at in horizons]
                rows.append([row.title, REGIMES[regime], *cells, *_cost(found)])
            if found and row.published in published:
                cited.add(row.published)
                rows.append(_published_row(f"{row.published}, {mark}", published[row.published]))
        rows += [_published_row(f"{name}, {mark}", one) for name, one in published.items() if name not in cited]
        columns = ["model", "state", *(f"{minutes:g} min" for minutes in horizons)]
        return table([*columns, "seeds", "epochs", "CPU min"], rows)


def budget_of(row: Row, limits: Mapping[str, Any]) -> Budget:
    """Return how long the fits of a row take at most, by the options of that name."""
    return Budget(limits["paper_minutes" if row.preset == "paper" else "minutes"], limits["epochs"])


def errors(scores: Iterable[Mapping[str, Any]]) -> str:
    """Return "MAE / MAPE / RMSE" of the runs of one horizon as a cell, each with its standard deviation.

    A dash stands for MAPE where labels come near zero.
    """
    listed, parts = list(scores), []
    for measure, form in zip(MEASURES, (".2f", ".1f", ".2f"), strict=True):
        values = [one[measure] for one in listed if one[measure] is not None]
        if not values:
            parts.append("–")
            continue
        spread = f" ±{stdev(values):{form}}" if len(values) > 1 else ""
        parts.append(f"{mean(values):{form}}{spread}")
    return " / ".join(parts)


def _published_row(title: str, known: Published) -> list[str]:
    return [title, "windows", *(f"*{cell}*" for cell in known.cells()), "", "", ""]


def _cost(runs: Sequence[Run]) -> list[str]:
    epochs = [one["trained"]["epochs"] for one in runs if "trained" in one]
    minutes = mean(one["cpu_seconds"] for one in runs) / 60
    return [str(len(runs)), number(mean(epochs) if epochs else None, ".0f"), f"{minutes:.1f}"]


def _limits(result: Mapping[str, Any]) -> str:
    epochs = f"at most {result['epochs']} epochs" if result["epochs"] else "epochs as in the presets"
    others, paper = (
        f"at most {result[name]:g} CPU minutes" if result[name] else "no limit of time"
        for name in ("minutes", "paper_minutes")
    )
    return f"{others} a fit where a model takes what it is given, {paper} with preset paper, {epochs}"


def _summary(one: Run) -> str:
    first = [score for score in one["results"] if score["protocol"] == one["results"][0]["protocol"]]
    return f"MAE {' / '.join(format(score['mae'], '.2f') for score in first)}, {one['cpu_seconds']:.0f} s"
