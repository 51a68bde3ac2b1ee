"""Options of `slimcam` under their former names: on the command line, and in the files of users.

`RENAMED` is the one place to enter a new name; where the option is part of keys, its field keeps the former one there
(`slimcam.deploy.common.result_key.in_key(name=...)`), so that results are found again. Entries leave with the next
version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from slimcam.deploy.benchmark import emulated
from slimcam.deploy.common.renamed_options import below, notice

RENAMED = {
    **below("train.augment", {"mix": "mixup", "bend": "elastic", "occlusion": "erase"}),
    "data.labeller": "data.labeler",
    **below("benchmark", emulated.RENAMED_OPTIONS),
}
"""Dotted names, the former to the present one."""


def accept_in_files(renamed: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """Makes Hydra take former names in YAML files that it reads from folders (`--config-dir`, `hydra.searchpath`).

    Args:
        renamed: Dotted names, the former to the present one.
        tell: Gets a notice for each former name, once.
    """
    told: set[str] = set()

    def tell_once(line: str) -> None:
        if line not in told:
            told.add(line)
            tell(line)

    # Hydra registers its sources by the names of their classes, and keeps the one that it has.
    class FileConfigSource(file_config_source.FileConfigSource):
        def load_config(self, config_path: str) -> ConfigResult:
            found = super().load_config(config_path)
            if isinstance(found.config, DictConfig):
                content = OmegaConf.to_container(found.config)
                changed = _renamed(content, _package(config_path, found.header), renamed)
                for line in changed:
                    tell_once(f"{self._normalize_file_name(config_path)}: {line}")
                if changed:
                    found.config = OmegaConf.create(content)
            return found

    Plugins.instance()  # has registered its own when it is there
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource


def _package(config_path: str, header: Mapping[str, str | None]) -> str:
    """Where in the configuration the content of a file lies, dotted; empty for the top."""
    package = header.get("package") or "_group_"
    group = config_path.rpartition("/")[0].replace("/", ".")
    return package.replace("_group_", group).replace("_global_", "").strip(".")


def _renamed(content: Any, package: str, renamed: Mapping[str, str]) -> list[str]:
    """Gives options in the content of a file their present names, in place; returns a notice for each.

    Raises:
        ValueError: an option stands there under both names.
    """
    notices = []
    for old, new in renamed.items():
        if package and not old.startswith(f"{package}."):
            continue
        *sections, key = old[len(package) :].strip(".").split(".")
        at: Any = content
        for section in sections:
            at = at.get(section) if isinstance(at, dict) else None
        if not isinstance(at, dict) or key not in at:
            continue
        present = new.rpartition(".")[2]
        if present in at:
            raise ValueError(f"{old} and {new} are one option: give it once")
        at[present] = at.pop(key)
        notices.append(notice(old, new))
    return notices
