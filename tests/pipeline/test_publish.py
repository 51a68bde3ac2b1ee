"""What a run leaves under plain names."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_module

from slimcam.pipeline.config import register, validate
from slimcam.pipeline.publish import publish


def test_tensorboard_calls_runs_by_their_name_and_stage(tmp_path: Path) -> None:
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        config = validate(compose("slimcam", [f"paths.runs={tmp_path / 'runs'}", "stages=[train,prune]"]))
    results = {}
    for stage in ("train", "prune"):
        results[stage] = tmp_path / "store" / stage / "0123456789abcdef"
        (results[stage] / "tensorboard/phase-1-of-2").mkdir(parents=True)
        (results[stage] / "tensorboard/phase-1-of-2/events").write_text(stage)
    folder = publish(config, "demo/quantize=none", results)
    assert folder == tmp_path / "runs/demo/quantize=none"
    assert (folder / "tensorboard/prune/phase-1-of-2/events").read_text() == "prune"
