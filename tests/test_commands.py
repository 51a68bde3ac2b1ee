"""Commands and links that the pages and docstrings give lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

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
