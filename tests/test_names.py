"""Public classes and functions that are defined in more than one module: `python tests/test_names.py [ROOT]`.

A name that stands twice sends a reader to the wrong file. `main`, `run` and `register` are left out: console scripts
and stages are called so by convention.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("deploy", "training", "compression", "pipeline")
ROOMS = tuple(
    f"deploy/{room}" for room in ("common", "inference", "vision", "gallery", "latency", "benchmark", "types")
)
BY_CONVENTION = {"main", "run", "register"}


def names_in_two_modules(root: Path = ROOT) -> dict[str, list[str]]:
    """The files that define each public class or function of which there are several, by its name."""
    found = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                    found[node.name].append(path.relative_to(root).as_posix())
    return {name: files for name, files in sorted(found.items()) if len(files) > 1 and name not in BY_CONVENTION}


def test_no_name_stands_in_two_modules_of_deploy() -> None:
    several = {
        name: ours
        for name, files in names_in_two_modules().items()
        if len(ours := [file for file in files if file.startswith(ROOMS)]) > 1
    }
    assert not several


if __name__ == "__main__":
    several = names_in_two_modules(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    for name, files in several.items():
        print(f"{name:24} {', '.join(files)}")
    print(len(several))
