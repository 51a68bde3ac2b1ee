"""Commands and links that the pages and docstrings give lead somewhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from slimcam.pipeline.verify.cli import main as verify
from slimcam.training.tools.align_faces import main as align

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def test_every_module_that_is_named_as_a_command_can_be_run() -> None:
    rooms = ("compression", "conf", "deploy", "pipeline", "training")
    sources = [file for room in rooms for ending in ("py", "yaml") for file in (ROOT / room).rglob(f"*.{ending}")]
    named = {
        module: file
        for file in (ROOT / "Makefile", *PAGES, *sources)
        for module in re.findall(r"python -m\s+(slimcam(?:\.\w+)+)", file.read_text())
        if module.islower()  # NAME stands for any
    }
    assert len(named) > 10
    for module, file in named.items():
        source = ROOT.joinpath(*module.split(".")[1:])
        main = source / "__main__.py" if source.is_dir() else source.with_suffix(".py")
        assert main.is_file(), f"{file}: there is no {module}"
        assert source.is_dir() or "__main__" in main.read_text(), f"{file}: {module} is not a command"


def test_links_of_the_readme_lead_to_pages_and_headings() -> None:
    links = re.findall(r"\]\((?!http)([^)\s#]*)(?:#([^)\s]*))?\)", PAGES[0].read_text())
    assert len(links) > 10
    for path, anchor in links:
        page = ROOT / path if path else PAGES[0]
        assert page.exists(), path
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize(("program", "main"), [("slimcam-align", align), ("slimcam-verify", verify)])
def test_programs_outside_of_hydra_tell_their_version_too(
    program: str, main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--version"])
    monkeypatch.setattr(os, "environ", dict(os.environ))  # slimcam-verify limits the threads of its process
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{program} {version('slimcam')}\n")
