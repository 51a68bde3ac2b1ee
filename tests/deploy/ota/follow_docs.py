"""Follows docs/ota.md word for word: runs its blocks of commands, in their order, in an empty folder.

python -m tests.deploy.ota.follow_docs
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "docs/ota.md").read_text(), re.DOTALL)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "bin/slimcam-ota"
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m slimcam.deploy.apps.ota "$@"\n')
        script.chmod(0o755)
        # So that the server answers before the next command asks.
        commands = [block.replace(" &\n", " &\nsleep 3\n") for block in blocks() if "tests.deploy" not in block]
        work = folder / "work"
        work.mkdir()
        environment = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-exm"], input="\n".join(commands), cwd=work, env=environment, text=True)
    print(f"{len(commands)} blocks, {sum(block.count('slimcam-ota') for block in commands)} commands")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
