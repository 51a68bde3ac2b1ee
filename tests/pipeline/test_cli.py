from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from slimcam.pipeline import cli, members, store
from slimcam.pipeline.config import register, validate
from slimcam.pipeline.report import table
from slimcam.pipeline.report.table import Row, Table
from slimcam.pipeline.steps import STAGES, steps


@dataclass
class Ended:
    code: int
    out: str
    err: str


Slimcam = Callable[..., Ended]


@pytest.fixture
def slimcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the console script in this process and in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setattr(sys, "argv", ["slimcam", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return run


def finish(*overrides: str, gates: tuple[dict[str, object], ...] = (), stages: tuple[str, ...] = ()) -> None:
    """Puts results into the store as if every stage, or the named ones, had run."""
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        config = validate(compose("slimcam", overrides=list(overrides)))
    digests: dict[str, str | None] = {}
    row = Row("dense", 2.0, 1.0, 1.0, 1.0, 1.0, 1000, 1000, 1.0, 1.0, 0.9, 0.0, 0.0, 0.0)
    for name, step in steps(config).items():
        if stages and name not in stages:
            continue
        place = store.slot(Path(config.paths.store), name, step.key)
        store.prepare(place)
        if name == "report":
            (place.out / "report.html").write_text("report")
            table.save(Table("toy", "toy", 1, False, "Accuracy", (row, row), gates, ()), place.out / table.TABLE)
        if name == "evaluate":
            (place.out / "evaluation.json").write_text(json.dumps({"gates": gates}))
            (place.out / "bundle").mkdir()
            (place.out / "bundle" / "model.tflite").write_text("model")
        store.publish(place, {**step.facts, "made_of": {source: digests[source] for source in step.stage.inputs}})
        digests[name] = store.content_digest(store.read_receipt(place))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["train.lerning=1"],
            "override 'train.lerning=1': train has no key 'lerning'; known are augment, balance, bn_images, fit, loss",
        ),
        (
            ["train.fit.learning_rte=1"],
            "override 'train.fit.learning_rte=1': train.fit has no key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        (["trian.seed=1"], "override 'trian.seed=1': the configuration has no key 'trian'; did you mean 'train'?"),
        (["train.fit.epochs=abc"], "override 'train.fit.epochs=abc': train.fit.epochs is a number; got 'abc'"),
        (["train.fit.batch_size=1.5"], "train.fit.batch_size is an integer; got '1.5'"),
        (["debgu=fast"], "the configuration has no key 'debgu'; did you mean 'debug'?"),
        (["epochs=3"], "did you mean train.fit.epochs, prune.sparse.epochs, prune.fit.epochs or quantize.fit.epochs?"),
        (["ratio=0.5"], "the configuration has no key 'ratio'; did you mean prune.ratio?"),
        (["model.path=my.keras"], "model has no key 'path'; it is an option of slimcam compress"),
        (["data.root=/x"], "data has no key 'root'; it is an option of data=folders, data=lfw,"),
        (["experiment=lwf"], "experiment=lwf: experiment has no 'lwf'; did you mean 'lfw'?"),
        (["modle=resnet50"], "override 'modle=resnet50': the configuration has no key 'modle'; did you mean 'model'?"),
        (["model=vgg"], "model=vgg: model has no 'vgg'; known are classifier, detector, efficientnet_b0"),
        (["data=lfw"], "data.root is required; give it on the command line as data.root=..."),
        (["model.options.alpha=0.5"], "model.options has no key 'alpha'; write +model.options.alpha=... to add it"),
        (["train.seed=[1"], "override 'train.seed=[1' is not understood"),
        (["train.fit=3"], "train.fit"),
        (["train.seed=1,2"], "train.seed"),
        (["stages=[trian]"], "stages: no stage 'trian'; did you mean 'train'?"),
        (["stages=[prune]"], "no result of train with this configuration yet; run it as well: stages=[train,prune]"),
        (["backend=theano"], "backend is one of tensorflow, jax, torch; got 'theano'"),
        (["evaluate.rates=[-2]"], "evaluate: rates of errors are above 0"),
        (["name=a/b"], "name becomes a folder"),
        (["data=folders", "data.root=nowhere"], "data: no folder nowhere"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(slimcam: Slimcam, arguments: list[str], line: str) -> None:
    ended = slimcam(*arguments)
    assert ended.code == 1
    assert ended.err.startswith("slimcam: ")
    assert ended.err.count("\n") == 1
    assert line in ended.err


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        (
            "train/mine.yaml",
            "defaults: [/schema/train@_here_, _self_]\nfit: {learning_rte: 0.1}\n",
            "train/mine.yaml: train.fit has no key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        (
            "train/mine.yaml",
            "seed: none\n",
            "train: its file names no schema; begin it with defaults: [/schema/train@_here_, _self_]",
        ),
        (
            "experiment/mine.yaml",
            "# @package _global_\nprune: {rato: 0.5}\n",
            "experiment/mine.yaml: prune has no key 'rato'; did you mean 'ratio'?",
        ),
        (
            "experiment/mine.yaml",
            "# @package _global_\nprun: {ratio: 0.5}\n",
            "experiment/mine.yaml: the configuration has no key 'prun'; did you mean 'prune'?",
        ),
        (
            "experiment/mine.yaml",
            "# @package _global_\ndefaults: [override /model: resnet5]\n",
            "model=resnet5: model has no 'resnet5'; did you mean 'resnet50'?",
        ),
        ("train/mine.yaml", "fit: {epochs: [1\n", "train/mine.yaml, line 2: not YAML: "),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(
    slimcam: Slimcam, tmp_path: Path, file: str, text: str, line: str
) -> None:
    path = tmp_path / "mine" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    ended = slimcam("--config-dir", "mine", f"{path.parent.name}=mine")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert line in ended.err


NOTICE = "train.augment.mix is called train.augment.mixup now; the former name still works in this version"


def test_an_option_under_its_former_name_sets_the_present_one_with_a_notice(slimcam: Slimcam) -> None:
    ended = slimcam("--cfg", "job", "train.augment.mix=0.25", "++train.augment.bend=0.5")
    assert ended.code == 0
    assert {"mixup: 0.25", "elastic: 0.5"} <= {line.strip() for line in ended.out.splitlines()}
    assert ended.err.splitlines() == [
        f"slimcam: {NOTICE}",
        f"slimcam: {NOTICE.replace('mixup', 'elastic').replace('mix', 'bend')}",
    ]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("experiment/mine.yaml", "# @package _global_\ntrain: {augment: {mix: 0.25}}\n"),
        ("train/mine.yaml", "defaults: [/schema/train@_here_, _self_]\naugment: {mix: 0.25}\n"),
    ],
)
def test_a_file_with_a_former_name_serves_with_a_notice(slimcam: Slimcam, tmp_path: Path, file: str, text: str) -> None:
    path = tmp_path / "mine" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    ended = slimcam("--cfg", "job", "--config-dir", "mine", f"{path.parent.name}=mine")
    assert (ended.code, ended.err) == (0, f"slimcam: {file}: {NOTICE}\n")
    assert "mixup: 0.25" in ended.out


def test_a_file_with_both_names_of_an_option_is_refused_in_one_line(slimcam: Slimcam, tmp_path: Path) -> None:
    path = tmp_path / "mine/experiment/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\ntrain: {augment: {mix: 0.25, mixup: 0.5}}\n")
    ended = slimcam("--config-dir", "mine", "experiment=mine")
    assert ended.code == 1
    assert ended.err.splitlines() == ["slimcam: train.augment.mix and train.augment.mixup are one option: give it once"]


def test_an_unchanged_configuration_does_nothing_and_shows_where_results_are(slimcam: Slimcam, tmp_path: Path) -> None:
    finish("experiment=demo")
    started = sum(os.times()[:4])  # of processors: other work on the machine makes the clock longer
    ended = slimcam("experiment=demo")
    assert sum(os.times()[:4]) - started < 5
    assert (ended.code, ended.err) == (0, "")
    assert "nothing to do" in ended.out
    assert f"results are in {Path('runs/demo')}" in ended.out
    assert (tmp_path / "runs/demo/report.html").read_text() == "report"
    assert (tmp_path / "runs/demo/bundle/model.tflite").exists()
    assert set(json.loads((tmp_path / "runs/demo/stages.json").read_text())) == {stage.name for stage in STAGES}
    assert slimcam("experiment=demo").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_what_is_of_an_earlier_configuration_is_marked_and_stays_until_it_is_replaced(
    slimcam: Slimcam, tmp_path: Path
) -> None:
    finish("experiment=demo")
    finish("experiment=demo", "train.seed=1", stages=("train",))
    folder = tmp_path / "runs/demo"
    assert slimcam("experiment=demo").code == 0
    for _ in range(2):
        shorter = slimcam("experiment=demo", "train.seed=1", "stages=[train]")
        assert (shorter.code, shorter.err.count("\n")) == (0, 1)
        assert "of an earlier configuration, in runs/demo: report.html, bundle" in shorter.err
        assert (folder / "report.html").read_text().count("Of an earlier configuration") == 1
        assert "report" in (folder / "report.html").read_text()
        assert (folder / "bundle/model.tflite").read_text() == "model"
        assert "bundle: of an earlier configuration" in (folder / "STALE").read_text()
    assert slimcam("experiment=demo").err == ""
    assert (folder / "report.html").read_text() == "report"
    assert not (folder / "STALE").exists()


def test_a_pack_lies_with_the_run_that_asked_for_it_until_another_takes_its_place(
    slimcam: Slimcam, tmp_path: Path
) -> None:
    finish("experiment=demo", stages=("pack",))
    finish("experiment=demo", "train.seed=1", stages=("train",))
    assert slimcam("experiment=demo", "stages=[pack]").code == 0
    assert (tmp_path / "runs/demo/pack/stage.json").is_file()
    assert slimcam("experiment=demo", "train.seed=1", "stages=[train]").code == 0
    assert "pack: of an earlier configuration" in (tmp_path / "runs/demo/STALE").read_text()


def test_a_failed_gate_fails_the_run_every_time(slimcam: Slimcam) -> None:
    gates = (
        {"name": "size", "figure": 3.2, "bound": 2.0, "passed": False, "text": "size FAILED: 3.2, wanted at most 2 MB"},
        {
            "name": "delegated",
            "figure": 1.0,
            "bound": 1.0,
            "passed": True,
            "text": "delegated passed: 1, wanted at least 1",
        },
    )
    finish(gates=gates)
    for _ in range(2):
        ended = slimcam("name=slimcam")
        assert ended.code == members.GATES_FAILED
        assert ended.err == "slimcam: gate size FAILED: 3.2, wanted at most 2 MB\n"
    assert slimcam("stages=[train]").code == 0


def test_a_sweep_runs_each_job_and_gives_each_its_folder(slimcam: Slimcam, tmp_path: Path) -> None:
    finish("experiment=demo", "prune.ratio=0.5")
    finish("experiment=demo", "prune.ratio=0.6")
    ended = slimcam("-m", "experiment=demo", "prune.ratio=0.5,0.6")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("nothing to do") == 2
    for ratio in ("0.5", "0.6"):
        assert (tmp_path / f"runs/demo/prune.ratio={ratio}/report.html").exists()
        assert f". prune.ratio={ratio} * |" in (tmp_path / "runs/demo/comparison.md").read_text()
    assert (tmp_path / "runs/demo/pareto.png").is_file()
    compared = slimcam("compare", "demo")
    assert (compared.code, compared.err) == (0, "")
    assert "demo/prune.ratio=0.6 *" in compared.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_sweep_goes_on_after_a_job_that_failed(slimcam: Slimcam) -> None:
    finish("prune.ratio=0.6")
    ended = slimcam("-m", "prune.ratio=2,0.6")
    assert ended.code == 1
    assert ended.err.startswith("slimcam: prune: ratio is the share to remove")
    assert ended.out.count("nothing to do") == 1
    assert "failed: prune.ratio=2: prune: ratio is the share" in ended.out
    compared = slimcam("compare", "slimcam")
    assert "failed: slimcam/prune.ratio=2: prune: ratio is the share" in compared.out


def test_a_sweep_tells_of_members_that_were_not_reached(slimcam: Slimcam, monkeypatch: pytest.MonkeyPatch) -> None:
    finish("prune.ratio=0.6")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    assert slimcam("-m", "prune.ratio=0.6,0.5").code == 1
    monkeypatch.setattr(members, "run", killed)
    assert slimcam("-m", "prune.ratio=0.6,0.5,0.4").code == cli.INTERRUPTED
    outcomes = {path.parent.name: json.loads(path.read_text())["line"] for path in Path("runs").rglob(members.MEMBER)}
    assert "has not come to its end; the same command goes on" in outcomes["prune.ratio=0.6"]
    assert "has not begun" in outcomes["prune.ratio=0.4"]


def test_help_tells_what_can_be_chosen(slimcam: Slimcam) -> None:
    ended = slimcam("--help")
    assert ended.code == 0
    assert (
        "experiment  classifier, demo, detector, efficientnet, lfw, magnitude_mlp, recognizer, search, shapes"
        in ended.out
    )
    assert "learning_rate" in ended.out


def test_no_arguments_show_the_help_and_train_nothing(slimcam: Slimcam, tmp_path: Path) -> None:
    ended = slimcam()
    assert (ended.code, ended.err) == (0, "")
    assert "slimcam experiment=demo" in ended.out
    assert not (tmp_path / "runs").exists()


def test_the_version_is_that_of_slimcam(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["slimcam", "--version"])
    cli.main()
    assert capfd.readouterr().out == f"slimcam {version('slimcam')}\n"


def test_options_of_a_file_for_one_backbone_do_not_follow_to_another() -> None:
    for choice, options in (("mobilenet_v2", {"alpha": 1.0}), ("small_resnet", {"width": 16}), ("resnet50", {})):
        register()
        with initialize_config_module("slimcam.conf", version_base=None):
            config = validate(compose("slimcam", overrides=["debug=fast", f"model={choice}"]))
        assert config.model.options == options


def test_ctrl_c_ends_a_run_with_one_line(tmp_path: Path, environment: dict[str, str]) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "slimcam.pipeline.cli", "debug=fast", "stages=[train]"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert "running" in run.stdout.readline()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert run.returncode == cli.INTERRUPTED
    assert err.strip() == "slimcam: stopped; the same command goes on from the last checkpoint"
