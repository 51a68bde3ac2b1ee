"""Runs side by side: who beats whom, and what is said of those that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.pipeline import members
from slimcam.pipeline.members import Outcome
from slimcam.pipeline.report import comparison, table
from slimcam.pipeline.report.comparison import Comparison
from slimcam.pipeline.report.table import Row, Table


def run(accuracy: float, p50: float, machine: str = "toy", gates: tuple[dict[str, object], ...] = ()) -> Table:
    dense = Row("dense", 4.0, 9.0, 1.0, 1.0, accuracy=0.99)
    small = Row(
        "quantized",
        1.0,
        p50,
        4.0,
        9.0 / p50,
        parameters=1000,
        accuracy=accuracy,
        change=accuracy - 0.99,
        low=-0.1,
        high=0.1,
    )
    return Table("toy", machine, 1, False, "Accuracy", (dense, small), gates, ())


GATE = {"name": "size_mb", "passed": False, "text": ""}
RUNS = {"slow": run(0.98, 4.0), "beaten": run(0.90, 3.0, gates=(GATE,)), "fast": run(0.95, 2.0)}


def test_a_run_is_on_the_front_unless_another_is_as_good_in_both_and_better_in_one():
    assert Comparison(RUNS, {}).front == ["slow", "fast"]
    assert Comparison({"one": run(0.9, 1.0), "same": run(0.9, 1.0)}, {}).front == ["one", "same"]


def test_table_and_plot_hold_all_members_and_name_those_that_failed(tmp_path: Path):
    text = comparison.write(Comparison(RUNS, {"ratio=2": "prune: ratio is a share"}), tmp_path)
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["run", "parameters", "MB"]
    assert lines[1].split() == ["dense", "–", "4.00", "99.00", "%", "–", "9.00", "–", "–"]
    assert [line.split()[1] for line in lines[2:5]] == ["slow", "beaten", "fast"]
    assert lines[5].split()[0] == "ratio=2"
    assert "FAILED: size_mb" in lines[3]
    assert "failed: ratio=2: prune: ratio is a share" in text
    page = (tmp_path / "comparison.md").read_text()
    assert "| 3. fast * | 1.00 k | 1.00 | 95.00 % |" in page
    assert "(pareto.png)" in page
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_what_does_not_compare_is_said():
    notes = Comparison({"a": run(0.9, 1.0), "b": run(0.9, 1.0, "board")}, {}).notes
    assert "latencies are of different machines and do not compare: board, toy" in notes


def test_runs_are_found_by_name_and_a_sweep_stands_for_its_members(tmp_path: Path):
    for name, made in RUNS.items():
        folder = tmp_path / ("single" if name == "slow" else f"sweep/{name}")
        folder.mkdir(parents=True)
        table.save(made, folder / table.TABLE)
        if name != "slow":
            members.write(folder, Outcome(members.DONE))
    table.save(RUNS["slow"], tmp_path / "sweep/killed" / table.TABLE)
    members.write(tmp_path / "sweep/killed", members.STOPPED)
    found = comparison.read_runs(["single", "sweep"], tmp_path)
    assert set(found.runs) == {"single", "sweep/beaten", "sweep/fast"}
    # Its table is of an earlier configuration.
    assert found.failed == {"sweep/killed": members.STOPPED.line}
    with pytest.raises(FileNotFoundError, match="nowhere: no run with a report of that name"):
        comparison.read_runs(["nowhere"], tmp_path)
    with pytest.raises(ValueError, match="slimcam compare RUN RUN"):
        comparison.read_runs([], tmp_path)


def test_members_are_named_by_what_sets_them_apart(tmp_path: Path):
    folders = [tmp_path / f"epochs=3,ratio={ratio},scheme=ptq" for ratio in (0.3, 0.5)]
    found = comparison.of_members({folders[0]: members.WAITS, folders[1]: members.STOPPED})
    assert found.failed == {"ratio=0.3": members.WAITS.line, "ratio=0.5": members.STOPPED.line}
