"""What `import compression` brings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from slimcam import compression


def test_every_public_name_can_be_imported() -> None:
    assert all(callable(getattr(compression, name)) for name in compression.__all__)


def test_the_package_and_its_configuration_load_no_framework() -> None:
    code = (
        "import sys, compression, slimcam.compression.pruning.config, slimcam.compression.errors;"
        "print([name for name in ('keras', 'tensorflow', 'tf_keras', 'numpy') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
