"""What of a configuration the key of a result is made of: said at the field of each option.

Results are kept under a digest of what made them (`slimcam.pipeline.store`). Every option is part of it as it is,
unless the metadata
of its field say otherwise: `field(default=None, metadata=KEY_FILE)`.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from slimcam.deploy.common.files import file_sha256

_METADATA = "slimcam.key"


@dataclass(frozen=True)
class _Role:
    """What an option is to a key.

    Attributes:
        name: Name in the key; none stands for the field's own.
        material: What of its value counts; none stands for all of it.
        absent: Whether the key is made without the option, from the section and the option's value.
        unless_default: Whether the key is made without the option where it has its default.
    """

    name: str | None = None
    material: Callable[[Any], Any] | None = None
    absent: Callable[[Any, Any], bool] | None = None
    unless_default: bool = False


def in_key(
    *,
    name: str | None = None,
    material: Callable[[Any], Any] | None = None,
    absent: Callable[[Any, Any], bool] | None = None,
    unless_default: bool = False,
) -> Mapping[str, Any]:
    """Metadata of a field whose part in the key of a result is not just its name and its value.

    Args:
        name: Name in the key: that of earlier versions, whose results so are found again.
        material: From the option's value to what of it is part of the key.
        absent: From the section (a dataclass) and the option's value to whether the key is made without the option.
        unless_default: For an option that earlier versions lack: at its default results are theirs, and so is the key.
    """
    return {_METADATA: _Role(name, material, absent, unless_default)}


def file_content(value: Any) -> Any:
    """A digest of the file of that path; the value itself where there is no such file."""
    if isinstance(value, str) and Path(value).is_file():
        return f"sha256:{file_sha256(Path(value))}"
    return value


def path_content(value: Any) -> Any:
    """As `file_content`, and of a folder a digest of the names and contents of all files in it."""
    if not (isinstance(value, str) and Path(value).is_dir()):
        return file_content(value)
    files = sorted(path for path in Path(value).rglob("*") if path.is_file())
    lines = "".join(f"{path.relative_to(value).as_posix()} {file_sha256(path)}\n" for path in files)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def source_digest(module: str) -> str | None:
    """A digest of the Python source of a module and of the rest of its package, none where the module is not found.

    Nothing is imported: the key of a result is asked for more often than the result is made.

    Args:
        module: Dotted name.
    """
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = {str(path.relative_to(folder)): path for folder in folders for path in folder.rglob("*.py")}
    if not files and spec.origin is not None and Path(spec.origin).is_file():
        files = {Path(spec.origin).name: Path(spec.origin)}
    lines = "".join(f"{name} {file_sha256(path)}\n" for name, path in sorted(files.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}" if files else None


NOT_KEY = in_key(absent=lambda *_: True)
"""For an option that changes how long a stage takes, what it logs or where it reads, and never its result."""

KEY_FILE = in_key(material=file_content)
"""For an option that names a file: results depend on what is in it, not on where it lies."""


KEY_UNLESS_DEFAULT = in_key(unless_default=True)
"""For an option that earlier versions lack: at its default results are theirs, and so are their keys."""


def key_material(section: Any) -> Any:
    """What of a section of the configuration results depend on: mappings, lists and values that JSON has.

    Args:
        section: A dataclass, with others inside; anything else is material as it is.
    """
    if isinstance(section, (list, tuple)):
        return [key_material(part) for part in section]
    if not is_dataclass(section):
        return section
    material: dict[str, Any] = {}
    for option in fields(section):
        role: _Role = option.metadata.get(_METADATA, _Role())
        value = getattr(section, option.name)
        if role.absent is not None and role.absent(section, value):
            continue
        if role.unless_default and value == _default(option):
            continue
        material[role.name or option.name] = key_material(value if role.material is None else role.material(value))
    return material


def _default(option: Field[Any]) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()
