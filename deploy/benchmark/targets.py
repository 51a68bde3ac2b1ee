"""The targets: what kind of configuration asks for which way of measuring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from slimcam.deploy.benchmark import adb, emulated, ssh
from slimcam.deploy.inference.bundle import place_of
from slimcam.deploy.latency import host
from slimcam.deploy.latency.record import Record

TARGETS: dict[str, tuple[type, Callable[[Mapping[str, Path], Any], list[Record]]]] = {
    "host": (host.HostConfig, host.measure_on_host),
    "ssh": (ssh.SshConfig, ssh.measure_over_ssh),
    "adb": (adb.AdbConfig, adb.measure_over_adb),
    "emulated": (emulated.EmulatedConfig, emulated.predict_models),
}
"""Of each kind of target, its configuration's dataclass and its `measure(models, config)`."""


def register() -> None:
    """Makes the configurations known to Hydra as `/schema/target/<kind>`."""
    for name, (config, _) in TARGETS.items():
        ConfigStore.instance().store(group="schema/target", name=name, node=config)


def measure_on_target(models: Mapping[str, Path], config: Any) -> list[Record]:
    """Measures models on the target that the configuration is of.

    Args:
        models: name to .tflite file or bundle folder, or to the name of a bundle that comes with slimcam.
        config: Options of one of `TARGETS`.

    Returns:
        The records, those of the first number of threads first, in the order of the models.

    Raises:
        OSError, ValueError, RuntimeError: in one line, what is wrong and what to do about it.
    """
    for kind, function in TARGETS.values():
        if type(config) is kind:
            return function({name: place_of(path) for name, path in models.items()}, config)
    raise ValueError(f"there is no target for a {type(config).__name__}; choose one of {', '.join(TARGETS)}")
