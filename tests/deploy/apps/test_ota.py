"""`slimcam-ota` from its words to its lines; tests/deploy/ota has what it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slimcam.deploy.apps.ota import COMMANDS, OtaApplicationConfig, main
from slimcam.deploy.apps.ota_arguments import ARGUMENTS, overrides
from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.deploy.ota.config import OtaConfig
from slimcam.deploy.ota.publisher.keys import PASSPHRASE
from tests.deploy.ota.releases import serve, variant

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PASSPHRASE, "correct horse battery staple")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def run(command: str, **options: object) -> None:
    COMMANDS[command](OtaApplicationConfig(command=command, **options))  # type: ignore[arg-type]


@contextmanager
def failing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> Iterator[str]:
    """The line that the console script ends with."""
    monkeypatch.setattr(sys, "argv", ["slimcam-ota", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    yield line


def test_a_release_from_its_publication_to_a_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slimcam.deploy.ota.device.update.try_release", lambda _request: "")
    run("init")
    run("publish", runtime="2.0", percent=50)
    run("promote", release="1", ring="stable")
    with serve(tmp_path / "ota/public") as server:
        run("update", url=server.url, root="ota/public/metadata/1.root.json", folder="device")
    run("status", folder="device")
    run("withdraw", release="1")
    run("rotate", name="timestamp")
    run("renew", all=True, early=2)
    run("status")
    lines = capsys.readouterr().out
    for line in (
        "release 1 is published for 50 % of canary",
        "release 1 is for 50 % of canary, 100 % of stable",
        "release 1 is ready",
        "phase       ready",
        "release 1 is withdrawn",
        "signed again: root, targets, snapshot, timestamp",
        "withdrawn",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "what is to be done? slimcam-ota init, publish"),
        (["publsh"], "'publsh' is not a command; known are init, publish"),
        (["promote"], "slimcam-ota promote needs a release: slimcam-ota promote RELEASE"),
        (["promote", "ring=stable"], "slimcam-ota promote needs a release"),
        (["publish", "folder"], "'folder' is one word too many"),
        (["publish"], "ota/public is no repository; slimcam-ota init repository=ota/public makes one"),
        (["publish", "rnig=stable"], "rnig"),
        (["update"], "where from? give url=http://... and root=FILE"),
        (["update", "url=ftp://x", "root=r"], "ota.url is the address of a repository"),
        (["serve"], "ota/public is no repository"),
        (["status", "folder=none"], "none: there is no such folder of a device"),
        (["init", "keys=ota/public/keys"], "lies in the public folder"),
    ],
)
def test_mistakes_are_a_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing(capsys, monkeypatch, *words) as found:
        assert line in found


def test_a_release_must_have_a_number_a_ring_and_a_version(tmp_path: Path) -> None:
    run("init")
    with pytest.raises(ValueError, match="a release is named by its number; got '1x'"):
        run("promote", release="1x")
    with pytest.raises(ValueError, match="ring is canary or stable; got 'beta'"):
        run("publish", ring="beta")
    with pytest.raises(ValueError, match=r"runtime is a version such as 2\.1; got 'new'"):
        run("publish", runtime="new")
    failed = variant(RECOGNIZER, tmp_path / "failed", gates=[{"name": "a", "figure": 1, "bound": 0, "passed": False}])
    with pytest.raises(ValueError, match="did not pass a; it is not published"):
        run("publish", recognizer=str(failed.path))


def test_an_init_that_fails_leaves_no_key(tmp_path: Path) -> None:
    (tmp_path / "taken.pem").write_text("")
    from slimcam.deploy.apps.ota import InitConfig

    with pytest.raises(FileExistsError, match=r"taken\.pem exists; a private key is not overwritten"):
        run("init", init=InitConfig(timestamp="taken.pem"))
    assert not list((tmp_path / "ota").rglob("*.pem"))


def test_values_reach_the_configuration_as_they_are_written() -> None:
    assert overrides(["publish", "recognizer=a,b {c}", "percent=5"]) == [
        "command=publish",
        "recognizer='a,b {c}'",
        "percent=5",
    ]
    assert overrides(["init", "init.targets=hsm:2?label=ota"]) == ["command=init", "init.targets='hsm:2?label=ota'"]
    assert overrides(["--help"]) == ["--help"]
    assert ARGUMENTS.keys() == COMMANDS.keys()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"url": "updates.example.org", "root": "r"}, "ota.url is the address"),
        ({"url": "https://updates.example.org"}, "ota.root is missing"),
        ({"root": "none"}, "no such file of root metadata"),
        ({"ring": "beta"}, "ota.ring is canary or stable"),
        ({"every": 0}, "ota.every"),
        ({"limit": 1}, "ota.limit"),
        ({"window": 99}, "ota.window"),
    ],
)
def test_a_camera_is_told_what_is_wrong_with_its_options(options: dict[str, object], match: str) -> None:
    with pytest.raises((ValueError, OSError), match=match):
        OtaConfig(**options)  # type: ignore[arg-type]


def test_without_python_tuf_it_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "tuf").mkdir()
    (tmp_path / "tuf/__init__.py").write_text("raise ImportError('hidden')")
    done = subprocess.run(
        [sys.executable, "-m", "slimcam.deploy.apps.ota", "init"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip() == "slimcam-ota: python-tuf is not installed: pip install 'slimcam[ota]'"
