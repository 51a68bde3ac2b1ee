"""One line for what is wrong with a configuration: where it was written, which key, what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from slimcam import conf
from slimcam.deploy.common.messages import did_you_mean, first_line, one_line

_KINDS = {"Float": "a number", "Integer": "an integer", "Boolean": "true or false", "String": "a text"}


def explain(error: BaseException, hint: Callable[[str], str] = lambda _: "") -> str:
    """The line for an error of Hydra, OmegaConf or YAML; any other error's own message on one line.

    Args:
        hint: From the dotted name of an option that there is not to the end of the line about it, or to nothing, where
            a near name is the hint.

    Addresses are left out of the former: they repeat what was typed, and there may be a password in it.
    """
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return re.sub(r"(\w://)\S*", r"\1...", _explained(error, hint))
    return _explained(error, hint)


def _explained(error: BaseException, hint: Callable[[str], str]) -> str:
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return f"override {error.override!r} is not understood: {first_line(error)}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{_relative(Path(mark.name))}, line {mark.line + 1}: not YAML: {error.problem}"
    cause = _omegaconf_error(error)
    if cause is None:
        return one_line(error)
    place = _place(error)
    return f"{place}: {_describe(cause, place, hint)}" if place else _describe(cause, "", hint)


def config_file(name: str) -> str:
    """The file of a Hydra configuration such as `train/default`, as a user finds it."""
    folder = _conf_folder()
    for file in (folder / f"{name}.yaml", folder / "device" / f"{name}.yaml"):
        if file.is_file():
            return str(_relative(file))
    return f"{name}.yaml"


def _missing_option(error: MissingConfigException) -> str:
    name = error.missing_cfg_file
    if name is None or "/" not in name:
        return one_line(str(error).split("Config search path", 1)[0])
    group, option = name.rsplit("/", 1)
    options = [known for known in error.options or () if not known.endswith("_schema")]
    writer = re.match(r"In '([^']+)': ", str(error))
    # The primary configuration is where an option of the command line ends up.
    file = f"{config_file(writer[1])}: " if writer and "/" in writer[1] else ""
    return f"{file}{group}={option}: {group} has no {option!r}{did_you_mean(option, options)}"


def _omegaconf_error(error: BaseException) -> OmegaConfBaseException | None:
    link: BaseException | None = error
    while link is not None and not isinstance(link, OmegaConfBaseException):
        link = link.__cause__ or link.__context__
    return link


def _place(error: BaseException) -> str:
    """The file or the override that Hydra was merging."""
    text = str(error) if isinstance(error, ConfigCompositionException) else ""
    if found := re.match(r"In '([^']+)': ", text):
        return config_file(found[1])
    if found := re.search(r"(?:To append to your config use \+|Error merging override )(.*)", text):
        return f"override {found[1]!r}"
    return ""


def _describe(error: OmegaConfBaseException, place: str, hint: Callable[[str], str]) -> str:
    message = one_line(str(error.msg or error).splitlines()[0])
    path = error.full_key or ""
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        parent, _, key = path.rpartition(".")
        if not _typed(error) and parent and place.startswith("override"):
            return f"{parent} has no key {key!r}; write +{path}=... to add it"
        return (
            f"{parent or 'the configuration'} has no key {key!r}{hint(path) or did_you_mean(key, _valid_keys(error))}"
        )
    if isinstance(error, ValidationError) and (found := re.match(r"Value (.*) of type .* to (\w+)$", message)):
        return f"{path} is {_KINDS.get(found[2], f'a {found[2]}')}; got {found[1]}"
    return message if not path or path in message else f"{path}: {message}"


def _typed(error: OmegaConfBaseException) -> bool:
    return is_dataclass(error.object_type)


def _valid_keys(error: OmegaConfBaseException) -> list[str]:
    kind: Any = error.object_type
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    node = error.parent_node
    return [str(key) for key in node if key != "hydra"] if isinstance(node, DictConfig) else []


def _conf_folder() -> Path:
    return Path(str(conf.__file__)).parent


def _relative(path: Path) -> Path:
    folder = _conf_folder()
    return path.relative_to(folder.parent) if path.is_relative_to(folder) else path
