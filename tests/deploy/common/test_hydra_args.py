"""Values of a command line through Hydra's own parser: what was typed is what arrives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module

import slimcam.deploy.apps.faces  # noqa: F401 - registers its schema
from slimcam.deploy.apps.camera import PATHS, TEXTS
from slimcam.deploy.apps.faces_arguments import overrides
from slimcam.deploy.common.hydra_args import with_texts
from slimcam.pipeline.cli import is_path

AWKWARD = [
    "a b/c.db",
    "holiday (2)/faces",
    "Фото/лица",
    "a,b",
    "key=value",
    "O'Brien's",
    'say "x"',
    "#1",
    "50%",
    "[x]",
    "{x}",
    "${HOME}",
    "back\\slash",
    "a:b;c&d",
    " lead",
    "-x",
    "true",
    "1e5",
]


def composed(config: str, words: list[str]) -> Any:
    with initialize_config_module("slimcam.conf.device", version_base=None):
        return compose(config, words)


@pytest.mark.parametrize("path", AWKWARD)
def test_a_path_arrives_as_it_was_typed(path: str) -> None:
    words = [f"{key}={path}" for key in ("gallery", "outputs.lines", "report")]
    found = composed("slimcam_camera", with_texts(["source=0", *words], TEXTS, PATHS))
    assert (found.gallery, found.outputs.lines, found.report) == (path, path, path)
    found = composed("slimcam_faces", overrides(["enroll", "~", f"./{path}", f"gallery={path}"]))
    assert (found.name, found.gallery) == ("~", path)


@pytest.mark.parametrize("path", [path for path in AWKWARD if path != "[x]"])  # which is a list there
def test_a_path_of_the_pipeline_arrives_as_it_was_typed(path: str) -> None:
    (word,) = with_texts([f"data.root={path}"], paths=is_path, lists=True)
    with initialize_config_module("slimcam.conf.device", version_base=None):
        assert compose(overrides=[f"+{word}"]).data.root == path


def test_a_home_is_expanded_where_no_shell_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert with_texts(["gallery=~/g.db", "source=~x"], TEXTS, PATHS) == [f"gallery='{tmp_path}/g.db'", "source='~x'"]
    assert with_texts(["data.root=~/faces"], paths=is_path) == [f"data.root='{tmp_path}/faces'"]
    words = overrides(["enroll", "~", "~/a b.jpg", "key=~/k"])
    assert words[1:] == ["name='~'", f"key='{tmp_path}/k'", f"pictures=['{tmp_path}/a b.jpg']"]
    assert overrides(["export", "~/out"])[1] == f"file='{tmp_path}/out'"


def test_none_lists_and_sweeps_stay_hydras() -> None:
    words = ["gallery=null", "data.root=a,b", "train.teacher.path=[a,b]", "seed=1,2", "-m"]
    assert with_texts(words, paths=is_path, lists=True, sweep=True) == words


def test_a_dictionary_may_have_new_keys_and_a_folder_may_be_called_like_one() -> None:
    def changed(word: str, sweep: bool = False) -> str:
        return with_texts([word], paths=is_path, lists=True, sweep=sweep)[0]

    assert changed("prune.ratios={conv4_*: 0.5, conv5_*: 0.7}") == "++prune.ratios={conv4_*: 0.5, conv5_*: 0.7}"
    assert changed("prune.ratios={a: 0.5},{a: 0.7}", sweep=True) == "++prune.ratios={a: 0.5},{a: 0.7}"
    assert changed("+prune.ratios={a: 0.5}") == "+prune.ratios={a: 0.5}"
    assert changed("data.root={x}") == "data.root='{x}'"
