from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.compression.plans import main
from slimcam.compression.pruning.plan import PruningPlan


def test_plans_are_shown_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    PruningPlan({"x": (0, 1), "y": (0,)}, {"x": 4, "y": 2}).save(a)
    PruningPlan({"x": (1, 2, 3), "y": (0,)}, {"x": 4, "y": 2}).save(b)

    main([str(a)])
    assert capsys.readouterr().out.splitlines()[1].split() == ["x", "4", "2", "50%"]
    main([str(a), str(b)])
    assert capsys.readouterr().out.splitlines()[1].split() == ["x", "4", "2", "3", "1"]
    main([str(a), str(a)])
    assert capsys.readouterr().out == "the plans keep the same channels\n"


def test_a_file_that_is_no_plan_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"^\S+a\.json: not a pruning plan"):
        main([str(tmp_path / "a.json")])
    with pytest.raises(SystemExit, match="No such file"):
        main([str(tmp_path / "none.json")])
