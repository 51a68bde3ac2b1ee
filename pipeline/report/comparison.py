"""Several runs side by side: one table, and one plot of what each gives and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slimcam.deploy.common.files import atomic, write_text
from slimcam.deploy.common.text_table import grid
from slimcam.pipeline.members import Outcome, outcomes
from slimcam.pipeline.report import plots, wording
from slimcam.pipeline.report.table import TABLE, Row, Table, change, load

COMPARISON, PARETO = "comparison.md", "pareto.png"


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: Table of each run, by its name.
        failed: What went wrong with each other one, a line each.
    """

    runs: Mapping[str, Table]
    failed: Mapping[str, str]

    @property
    def front(self) -> list[str]:
        """The runs than which no other is both at least as accurate and as fast, and better in one of the two."""
        rows = {name: table.rows[-1] for name, table in self.runs.items()}
        return [name for name, row in rows.items() if not any(_beats(other, row) for other in rows.values())]

    @property
    def notes(self) -> list[str]:
        """What to know before figures are compared."""
        machines = {table.machine for table in self.runs.values()}
        measures = {table.measure for table in self.runs.values()}
        star = "* no other run is both at least as accurate and as fast, and better in one of the two"
        notes = [star] if self.runs else []
        if len(machines) > 1:
            notes.append(f"latencies are of different machines and do not compare: {', '.join(sorted(machines))}")
        if len(measures) > 1:
            notes.append(f"accuracies are of different kinds and do not compare: {', '.join(sorted(measures))}")
        notes += [f"{name}: {remark}" for name, table in self.runs.items() for remark in table.remarks]
        return notes + [f"failed: {name}: {line}" for name, line in self.failed.items()]

    def cells(self) -> list[list[str]]:
        """The table: a heading, and a row for the compressed model of each run."""
        rows = [["run", "parameters", "MB", self.measure, "change, points (95 % interval)", "p50 ms"]]
        rows[0] += ["MB gzipped", "zeros", "gates"]
        rows += self._dense()
        for number, (name, table) in enumerate(self.runs.items(), 1):
            row = table.rows[-1]
            mark = " *" if name in self.front else ""
            gates = (
                "none"
                if not table.gates
                else "passed"
                if not table.failed
                else "FAILED: " + ", ".join(gate["name"] for gate in table.failed)
            )
            rows.append(
                [
                    f"{number}. {name}{mark}",
                    wording.count(row.parameters),
                    wording.megabytes(row.size_mb),
                    wording.percent(row.accuracy),
                    change(row),
                    wording.milliseconds(row.p50_ms),
                    wording.megabytes(row.gzip_mb),
                    wording.percent(row.zeros, 0),
                    gates,
                ]
            )
        return rows + [[name, *[wording.UNKNOWN] * 7, "did not finish"] for name in self.failed]

    def _dense(self) -> list[list[str]]:
        """The model that all runs made smaller, where it is one and the same."""
        dense = [table.rows[0] for table in self.runs.values()]
        if len({(row.parameters, row.size_mb, row.accuracy) for row in dense}) != 1:
            return []
        row, times = dense[0], sorted({wording.milliseconds(one.p50_ms) for one in dense}, key=float)
        slowest = f" to {times[-1]}" if len(times) > 1 else ""
        figures = [wording.count(row.parameters), wording.megabytes(row.size_mb), wording.percent(row.accuracy)]
        zipped = [wording.megabytes(row.gzip_mb), wording.percent(row.zeros, 0)]
        return [["dense", *figures, wording.UNKNOWN, f"{times[0]}{slowest}", *zipped, ""]]

    @property
    def measure(self) -> str:
        """What the accuracies are, where they are of one kind."""
        measures = {table.measure for table in self.runs.values()}
        return measures.pop().lower() if len(measures) == 1 else "accuracy"


def of_members(outcomes: Mapping[Path, Outcome], prefix: str = "") -> Comparison:
    """Members of a sweep or a search: those that have a report, and what is said of the others.

    Args:
        outcomes: What became of each, by its folder.
        prefix: What their names begin with.
    """
    names = {folder: f"{prefix}{name}" for folder, name in _apart(list(outcomes)).items()}
    tables = {names[folder]: load(folder / TABLE) for folder, one in outcomes.items() if not one.line}
    return Comparison(tables, {names[folder]: one.line for folder, one in outcomes.items() if one.line})


def _apart(folders: Sequence[Path]) -> dict[Path, str]:
    """The names of members without the options that all of them have."""
    options = {folder: folder.name.split(",") for folder in folders}
    shared = set.intersection(*map(set, options.values())) if len(folders) > 1 else set()
    return {folder: ",".join(one for one in options[folder] if one not in shared) for folder in folders}


def read_runs(words: Sequence[str], runs: Path) -> Comparison:
    """The runs that are named, each a folder or a name below `runs`; a sweep stands for all its members.

    Raises:
        FileNotFoundError: one of them has no report.
        ValueError: none is named.
    """
    if not words:
        raise ValueError("compare what? slimcam compare RUN RUN ..., each a name below runs/ or a folder")
    found: dict[str, Table] = {}
    failed: dict[str, str] = {}
    for word in words:
        folder = next((path for path in (Path(word), runs / word) if path.is_dir()), None)
        if folder is not None and (folder / TABLE).is_file():
            found[word] = load(folder / TABLE)
            continue
        members = of_members(outcomes(sorted(folder.iterdir())), f"{word}/") if folder is not None else None
        if members is None or not members.runs:
            raise FileNotFoundError(f"{word}: no run with a report of that name; run it to its end (stage report)")
        found |= members.runs
        failed |= members.failed
    return Comparison(found, failed)


def write(comparison: Comparison, folder: Path) -> str:
    """Writes `comparison.md` and `pareto.png`; returns the table as text."""
    heading, *rows = comparison.cells()
    lines = ["# Runs side by side", "", f"| {' | '.join(heading)} |", "|:--|" + "--:|" * (len(heading) - 1)]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    lines += ["", *(f"- {note.replace('* no', 'A star: no', 1)}" for note in comparison.notes)]
    if comparison.runs:
        lines += ["", f"![Accuracy against latency of each run]({PARETO})"]
        with atomic(folder / PARETO) as partial:
            figure = plots.pareto(
                {name: table.rows[-1] for name, table in comparison.runs.items()},
                comparison.front,
                comparison.measure,
                plots.LIGHT,
            )
            partial.write_bytes(plots.png(figure))
    write_text(folder / COMPARISON, "\n".join(lines) + "\n")
    return "\n".join([grid([heading, *rows]), *comparison.notes, f"compared in {folder / COMPARISON}"])


def _beats(one: Row, other: Row) -> bool:
    accuracy, others = one.accuracy or 0.0, other.accuracy or 0.0
    as_good = accuracy >= others and one.p50_ms <= other.p50_ms
    return as_good and (accuracy > others or one.p50_ms < other.p50_ms)
