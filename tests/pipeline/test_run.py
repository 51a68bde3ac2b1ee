from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from slimcam.deploy.common.result_key import KEY_FILE
from slimcam.pipeline import store
from slimcam.pipeline.run import StageError, run
from slimcam.pipeline.steps import Stage, steps
from slimcam.training.data.recognition.packed import PackedConfig, write
from slimcam.training.data.recognition.synthetic import SyntheticConfig
from slimcam.training.data.sources import fingerprint, load, material

TABLE = (
    Stage("first", "toy_stages:write", ("one",)),
    Stage("second", "toy_stages:write", ("two",), ("first",)),
    Stage("third", "toy_stages:write", ("three",), ("first", "second")),
)
SLOW = Stage("slow", "toy_stages:count", ("one",))


@dataclass
class Named:
    weights: str = field(metadata=KEY_FILE)


DRIVER = """
import sys
from types import SimpleNamespace
from slimcam.pipeline.run import run
from slimcam.pipeline.steps import Stage
paths = SimpleNamespace(store=sys.argv[1], cache=sys.argv[1])
run(SimpleNamespace(paths=paths, stages=["slow"], one=1), (Stage("slow", "toy_stages:count", ("one",)),))
"""


def ran(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The stages that the last run says it has done."""
    return [line.split()[0] for line in capsys.readouterr().out.splitlines() if "done in" in line]


def test_every_stage_sees_its_sections_and_the_results_of_its_inputs(toy: Any) -> None:
    results = run(toy, TABLE)
    assert list(results) == ["first", "second", "third"]
    assert (results["second"] / "result.txt").read_text() == "1 2"
    assert (results["third"] / "result.txt").read_text().startswith("1 1 2 {'value': 3")


def test_a_second_run_does_nothing_and_says_so(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(toy, TABLE)
    capsys.readouterr()
    started = time.monotonic()
    assert run(toy, TABLE) == first
    assert time.monotonic() - started < 0.5
    assert "nothing to do" in capsys.readouterr().out


def test_a_late_option_reruns_only_from_there(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(toy, TABLE)
    assert ran(capsys) == ["first", "second", "third"]
    run(replace(toy, three={"value": 4, "workers": 1}), TABLE)
    assert ran(capsys) == ["third"]
    run(replace(toy, two=5), TABLE)
    assert ran(capsys) == ["second", "third"]
    run(toy, TABLE)
    assert ran(capsys) == []


def test_an_option_without_effect_on_results_reruns_nothing(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from toy_stages import Section

    run(replace(toy, three=Section(workers=1)), TABLE)
    capsys.readouterr()
    run(replace(toy, three=Section(workers=8)), TABLE)
    assert ran(capsys) == []


def test_a_raised_version_reruns_the_stage_and_what_builds_on_it(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(toy, TABLE)
    capsys.readouterr()
    run(toy, (TABLE[0], replace(TABLE[1], version=2), TABLE[2]))
    assert ran(capsys) == ["second", "third"]


def test_a_part_needs_what_it_builds_on(toy: Any) -> None:
    with pytest.raises(ValueError, match=r"no result of first, second .*stages=\[first,second,third\]"):
        run(replace(toy, stages=["third"]), TABLE)
    run(replace(toy, stages=["second", "first"]), TABLE)
    results = run(replace(toy, stages=["third"]), TABLE)
    assert (results["third"] / "result.txt").exists()


def test_an_unknown_stage_is_named_with_the_nearest(toy: Any) -> None:
    with pytest.raises(ValueError, match="no stage 'secnd'; did you mean 'second'"):
        run(replace(toy, stages=["secnd"]), TABLE)


def test_a_result_with_a_missing_or_shortened_file_is_made_again(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(toy, TABLE)
    (results["second"] / "result.txt").write_text("")
    capsys.readouterr()
    run(toy, TABLE)
    assert ran(capsys) == ["second"]
    (results["first"] / "result.txt").unlink()
    run(toy, TABLE)
    assert ran(capsys) == ["first"]
    assert (results["second"] / "result.txt").read_text() == "1 2"


def test_what_builds_on_a_result_that_was_remade_otherwise_is_made_again(
    toy: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = (Stage("first", "toy_stages:stamp", ("one",)), *TABLE[1:])
    results = run(toy, stages)
    shutil.rmtree(results["first"])
    capsys.readouterr()
    run(toy, stages)
    assert ran(capsys) == ["first", "second", "third"]
    run(toy, stages)
    assert ran(capsys) == []


def test_a_full_disk_is_told_in_one_line_and_leaves_no_result(tmp_path: Path, environment: dict[str, str]) -> None:
    code = DRIVER.replace("toy_stages:count", "toy_stages:full")
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "File too large" in ended.stderr.splitlines()[0]
    assert not list(tmp_path.glob("slow/*/stage.json"))


def test_keys_follow_the_content_of_named_files_and_not_their_place(toy: Any, tmp_path: Path) -> None:
    def key(path: Path) -> str:
        return steps(replace(toy, one=Named(str(path))), TABLE)["first"].key

    here, there = tmp_path / "here", tmp_path / "there"
    here.write_text("weights")
    there.write_text("weights")
    assert key(here) == key(there)
    there.write_text("other weights")
    assert key(here) != key(there)


def test_the_receipt_says_what_made_a_result(toy: Any) -> None:
    receipt = json.loads((run(toy, TABLE)["third"] / "stage.json").read_text())
    assert receipt["config"] == {"three": {"value": 3, "workers": 1}}
    assert set(receipt["inputs"]) == {"first", "second"}
    assert receipt["libraries"]["numpy"]
    assert receipt["machine"]["processors"] >= 1
    assert receipt["seconds"] >= 0
    assert receipt["files"]["result.txt"]["sha256"]


def test_a_stage_runs_on_its_backend(toy: Any) -> None:
    stage = Stage("only", "toy_stages:backend", ("one",), backend="keras")
    assert (run(replace(toy, stages=["only"]), (stage,))["only"] / "result.txt").read_text() == "tensorflow"


@pytest.mark.parametrize(("set_by_user", "seen"), [(None, "1"), ("0", "0")])
def test_tensorflow_uses_onednn_in_a_stage_unless_the_user_says_otherwise(
    toy: Any, monkeypatch: pytest.MonkeyPatch, set_by_user: str | None, seen: str
) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if set_by_user:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", set_by_user)
    stage = Stage("only", "toy_stages:onednn", ("one",))
    assert (run(replace(toy, stages=["only"]), (stage,))["only"] / "result.txt").read_text() == seen


def test_a_result_of_one_backend_serves_another_and_its_receipt_names_its_own(toy: Any) -> None:
    table = (replace(TABLE[0], backend="keras"), replace(TABLE[1], backend="tensorflow", inputs=()))
    before, after = steps(toy, table), steps(replace(toy, backend="jax"), table)
    assert [step.key for step in before.values()] == [step.key for step in after.values()]
    assert (before["first"].facts["backend"], after["first"].facts["backend"]) == ("tensorflow", "jax")


def test_packed_faces_have_the_keys_of_those_that_were_packed(tmp_path: Path) -> None:
    stages = (Stage("only", "toy_stages:write", ("data",)),)
    source = SyntheticConfig(2, 2, 2, 2, 4)
    packed = PackedConfig(path=str(tmp_path / "faces.npz"))
    write(Path(packed.path), load(source, tmp_path), material(source), fingerprint(source))

    def step(data: Any) -> Any:
        return steps(SimpleNamespace(data=data), stages)["only"]

    assert step(packed).key == step(source).key
    assert step(replace(source, seed=1)).key != step(packed).key


def test_an_error_is_one_line_and_leaves_no_result(toy: Any, tmp_path: Path) -> None:
    table = (TABLE[0], Stage("second", "toy_stages:fail", ("two",), ("first",)))
    with pytest.raises(StageError) as caught:
        run(replace(toy, stages=["first", "second"]), table)
    line = str(caught.value)
    assert line.startswith("second: no faces in the folder; give another (details: ")
    log = Path(line.split("details: ")[1].rstrip(")"))
    assert "Traceback" in log.read_text()
    assert not list((tmp_path / "store" / "second").glob("*/stage.json"))
    # After the cause is gone the stage starts from a clean folder.
    result = run(replace(toy, stages=["first", "second"]), TABLE)["second"]
    assert sorted(path.name for path in result.iterdir()) == ["result.txt", "stage.json"]


def test_an_error_without_words_of_ours_names_its_type(toy: Any) -> None:
    with pytest.raises(StageError, match="first: KeyError: 'out'"):
        run(replace(toy, stages=["first"]), (Stage("first", "toy_stages:bug", ("one",)),))


def test_a_killed_worker_is_said_to_be_killed_and_its_work_is_kept(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="killed by SIGKILL"):
        run(replace(toy, stages=["first"]), (Stage("first", "toy_stages:die", ("one",)),))
    assert [path.read_text() for path in (tmp_path / "store").glob("*/*.partial/work/checkpoint")] == ["1"]


def test_a_worker_killed_for_memory_is_said_to_be_and_what_to_lower(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the kernel counts, before the stage and after it.
    monkeypatch.setattr("slimcam.pipeline.run._killed_for_memory", iter([4, 5]).__next__)
    with pytest.raises(StageError, match=r"^first: its process was killed for want of memory.* lower fit\.batch_size"):
        run(replace(toy, stages=["first"]), (Stage("first", "toy_stages:die", ("one",)),))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_killed_in_the_middle_goes_on_where_it_was(
    toy: Any, tmp_path: Path, environment: dict[str, str], how: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, toy.paths.store],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = _wait_for(tmp_path, "store/slow/*.partial/work/checkpoint")
    time.sleep(0.3)
    driver.send_signal(how)
    assert driver.wait(timeout=10) != 0
    worker = int((checkpoint.parent / "pid").read_text())
    _wait_until(lambda: not _alive(worker))
    assert not list((tmp_path / "store" / "slow").glob("*/stage.json"))
    result = run(replace(toy, stages=["slow"]), (SLOW,))["slow"]
    assert int((result / "result.txt").read_text().split()[1]) > 0
    assert "goes on from where it was stopped" in capsys.readouterr().out
    assert not list((tmp_path / "store" / "slow").glob("*.partial"))


def test_runs_that_need_one_result_make_it_once_and_the_others_wait(
    toy: Any, tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-c", DRIVER, toy.paths.store]
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    (result,) = (tmp_path / "store/slow").glob("*/result.txt")
    assert result.read_text() == "from 0"


def test_a_run_says_for_whom_it_waits(
    toy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="slimcam")
    toy = replace(toy, stages=["first"])
    place = run(toy, TABLE)["first"]
    (place / store.RECEIPT).unlink()
    monkeypatch.setattr(store, "LOCK_PATIENCE_SECONDS", 0.1)
    waiting = threading.Thread(target=run, args=(toy, TABLE))
    with store.claim(store.slot(Path(toy.paths.store), "first", place.name)):
        waiting.start()
        _wait_until(lambda: f"first  waits for another slimcam (process {os.getpid()} of " in caplog.text)
    waiting.join(timeout=60)
    assert (place / store.RECEIPT).is_file()


def _wait_for(folder: Path, pattern: str) -> Path:
    _wait_until(lambda: bool(list(folder.glob(pattern))))
    return next(folder.glob(pattern))


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
