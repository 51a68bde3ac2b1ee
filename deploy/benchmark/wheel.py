"""A wheel of what a device installs (the package `slimcam.deploy` and its configuration), made without a build tool.

Format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import slimcam
from slimcam import conf, deploy

NAME = "slimcam"
PYTHON = ">=3.10,<3.14"


def device_wheel(folder: Path) -> Path:
    """Writes the wheel into `folder`: a name that depends on the content alone, so that the same code is copied once.

    Models stay out of it.

    Raises:
        RuntimeError: slimcam is not installed here, so nobody knows what it requires.
    """
    try:
        version, requirements = importlib.metadata.version(NAME), requirements_of(NAME)
    except importlib.metadata.PackageNotFoundError as error:
        raise RuntimeError(f"{NAME} is not installed here; run pip install . (or -e .) in its checkout") from error
    files = _sources()
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    digest.update("\n".join(requirements).encode())
    local = f"{version}{'.' if '+' in version else '+'}{digest.hexdigest()[:12]}"
    info = f"{NAME}-{local}.dist-info"
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {NAME}",
        f"Version: {local}",
        f"Requires-Python: {PYTHON}",
        *(f"Requires-Dist: {requirement}" for requirement in requirements),
    ]
    files[f"{info}/METADATA"] = ("\n".join(metadata) + "\n").encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: {NAME}\nRoot-Is-Purelib: true\nTag: py3-none-any\n".encode()
    )
    files[f"{info}/entry_points.txt"] = "\n".join(["[console_scripts]", *_scripts(), ""]).encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    path = folder / f"{NAME}-{local}-py3-none-any.whl"
    path.write_bytes(_zip(files))
    return path


def requirements_of(package: str) -> list[str]:
    """What the base installation of a package requires, those of its extras left out."""
    return [line for line in importlib.metadata.requires(package) or () if "extra ==" not in line]


def _scripts() -> list[str]:
    """The console scripts that are part of `deploy`."""
    scripts = importlib.metadata.distribution(NAME).entry_points.select(group="console_scripts")
    return sorted(f"{script.name} = {script.value}" for script in scripts if script.value.startswith("slimcam.deploy."))


def _sources() -> dict[str, bytes]:
    """The files of the wheel, by their names in it."""
    root, code, options = Path(slimcam.__path__[0]), Path(deploy.__path__[0]), Path(conf.__path__[0])
    files = [(code, path) for path in code.rglob("*") if "models" not in path.relative_to(code).parts]
    files += [(options, path) for path in (options / "__init__.py", *(options / "device").rglob("*"))]
    wanted = [(folder, path) for folder, path in files if path.is_file() and "__pycache__" not in path.parts]
    found = {f"{NAME}/__init__.py": (root / "__init__.py").read_bytes()}
    return found | {
        f"{NAME}/{path.relative_to(folder.parent).as_posix()}": path.read_bytes() for folder, path in sorted(wanted)
    }


def _record(files: Mapping[str, bytes], own: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return ("\n".join([*lines, f"{own},,"]) + "\n").encode()


def _zip(files: Mapping[str, bytes]) -> bytes:
    """The same bytes for the same files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return content.getvalue()
