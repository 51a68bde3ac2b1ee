"""The tutorial's own code blocks, run one after the other in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs/your-model.md"
BLOCK = re.compile(r'(<!-- needs the emulated device -->\n)?```(python title="([\w.]+)"|sh)\n(.*?)```', re.DOTALL)


def test_the_tutorial_leads_from_nothing_to_a_bundle(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    said = []
    for needs_device, _, file, text in BLOCK.findall(PAGE.read_text()):
        if file:
            (tmp_path / file).write_text(text)
        elif not needs_device or "SLIMCAM_EMULATED" in os.environ:
            ended = subprocess.run(
                ["sh", "-e"], input=text, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, f"{text}\n{ended.stdout}\n{ended.stderr}"
            said.append(ended.stdout)
    assert (tmp_path / "runs/shapes/bundle/model.tflite").is_file()
    assert (tmp_path / "runs/elsewhere/model.tflite").is_file()
    assert any("Answer(name='disk'" in text for text in said)
    assert any("fidelity to the model that was given" in text for text in said)
