"""`slimcam-ota publish detector=DIR recognizer=DIR`: signed releases of models, and a device's look for them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from slimcam.deploy.apps.ota_arguments import overrides
from slimcam.deploy.common import application
from slimcam.deploy.common.console import show
from slimcam.deploy.common.text_table import grid
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.ota.config import OtaConfig
from slimcam.deploy.ota.device.settings import Settings
from slimcam.deploy.ota.device.state import StateFile

if TYPE_CHECKING:
    from slimcam.deploy.ota.publisher.repository import Repository

ALL = 100


@dataclass
class InitConfig:
    """Where keys are made or found: a file's path or an `hsm:` URI; null is a file in the folder of keys.

    Attributes:
        root1: Key of the first holder of the root.
        root2: Key of the second holder of the root.
        targets: Key of whoever publishes.
        snapshot: Key of the machine that renews, for snapshots.
        timestamp: Key of the machine that renews, for timestamps.
    """

    root1: str | None = None
    root2: str | None = None
    targets: str | None = None
    snapshot: str | None = None
    timestamp: str | None = None


@dataclass
class OtaApplicationConfig:
    """The application for signed releases.

    Attributes:
        command: First word of the command line, see `slimcam.deploy.apps.ota_arguments.ARGUMENTS`.
        release: Number of a release; the second word.
        name: Name of a key to rotate, `root1`, `root2`, `targets`, `snapshot` or `timestamp`; the second word.
        repository: Public folder.
        keys: Folder of the keyring; never inside of the public one.
        init: Places where keys are made or found.
        where: File's path or `hsm:` URI for the new key of `rotate`; null is a file in the folder of keys.
        detector: Folder of a bundle; null is the one that slimcam comes with.
        recognizer: Folder of a bundle; null is the one that slimcam comes with.
        ring: Ring that a release is for, `canary` or `stable`.
        percent: Percent of the devices of the ring that may take the release.
        minimum: Lowest release that devices may use once they have kept this one; 0 is none but their own.
        runtime: Lowest version of the TFLite runtime, `2.1`.
        slowdown: Percent of the latency of the models in use that the new ones may have on the same device.
        all: Whether `renew` signs targets and root too.
        early: Share of its time that a signature may have left to be renewed.
        port: Port to serve at, for trying.
        url: Address of the repository, for a device's `update`.
        root: File of the root metadata that a device trusts.
        folder: Folder of a device's slots and state; null is the user's own.
        device: Name of the device; null is the machine's.
        device_ring: Ring of the device.
        limit: Most bytes a second that a device downloads; null is no limit.
        gallery, key: Files of gallery and key; null is the user's own.
    """

    command: str | None = None
    release: str | None = None
    name: str | None = None
    repository: str = "ota/public"
    keys: str = "ota/keys"
    init: InitConfig = field(default_factory=InitConfig)
    where: str | None = None
    detector: str | None = None
    recognizer: str | None = None
    ring: str = "canary"
    percent: int = ALL
    minimum: int = 0
    runtime: str = "0"
    slowdown: int = 150
    all: bool = False
    early: float = 0.5
    port: int = 8080
    url: str | None = None
    root: str | None = None
    folder: str | None = None
    device: str | None = None
    device_ring: str = "stable"
    limit: int | None = None
    gallery: str | None = None
    key: str | None = None


ConfigStore.instance().store(group="schema", name="slimcam_ota", node=OtaApplicationConfig)


def main() -> None:
    """The console script."""
    application.run(_ota, program="slimcam-ota", config_name="slimcam_ota", overrides=overrides)


def _ota(composed: DictConfig) -> None:
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # of each attempt to connect it would tell
    config: Any = OmegaConf.to_object(composed)
    if config.command is None:
        raise ValueError(f"what is to be done? slimcam-ota {', '.join(COMMANDS)}; slimcam-ota --help shows more")
    COMMANDS[config.command](config)


def _init(config: OtaApplicationConfig) -> None:
    repository = _repository(config)
    repository.create(vars(config.init))
    show(f"{repository.folder} is to be served; devices need {repository.metadata / '1.root.json'}, on a trusted way")
    show(f"{config.keys} is secret: take root1 and root2 away from here and from each other, and keep copies")


def _publish(config: OtaApplicationConfig) -> None:
    if not re.fullmatch(r"\d+(\.\d+)*", config.runtime):
        raise ValueError(f"runtime is a version such as 2.1; got {config.runtime!r}")
    release = _repository(config).publish(
        Path(config.detector or DETECTOR),
        Path(config.recognizer or RECOGNIZER),
        rings={config.ring: config.percent},
        minimum=config.minimum,
        runtime=[int(number) for number in config.runtime.split(".")],
        slowdown=config.slowdown,
    )
    show(f"release {release.number} is published for {config.percent} % of {config.ring}")


def _promote(config: OtaApplicationConfig) -> None:
    release = _repository(config).promote(_number(config), {config.ring: config.percent})
    show(f"release {release.number} is for {_rings(release.rings)}")


def _withdraw(config: OtaApplicationConfig) -> None:
    release = _repository(config).withdraw(_number(config))
    show(f"release {release.number} is withdrawn: no device takes it any more; those that have it keep it")


def _rotate(config: OtaApplicationConfig) -> None:
    old = _repository(config).rotate(str(config.name), config.where)
    show(f"the key {old[:12]}... of {config.name} holds no more; serve the repository again")


def _renew(config: OtaApplicationConfig) -> None:
    from slimcam.deploy.ota.publisher.repository import DAYS, ONLINE

    renewed = _repository(config).renew(DAYS if config.all else ONLINE, early=config.early)
    show(f"signed again: {', '.join(renewed)}" if renewed else "nothing is to be signed yet")


def _status(config: OtaApplicationConfig) -> None:
    if config.folder is not None:
        show(_device_status(Path(config.folder)))
        return
    repository = _repository(config)
    now = datetime.now(timezone.utc)
    rows = [["role", "version", "expires", "left", "keys"]]
    for role in repository.status():
        left = (role.expires - now) / timedelta(days=1)
        keys = " ".join(key[:12] for key in role.keys)
        rows.append([role.role, str(role.version), role.expires.date().isoformat(), f"{left:.1f} days", keys])
    show(grid(rows))
    rows = [["release", "devices", "minimum", "slowdown", "recognizer", "detector"]]
    for release in repository.releases():
        models = [release.parts[part].model[:12] for part in ("recognizer", "detector")]
        devices = "withdrawn" if release.withdrawn else _rings(release.rings)
        rows.append([str(release.number), devices, str(release.minimum), f"{release.slowdown} %", *models])
    show(grid(rows) if len(rows) > 1 else "no release yet: slimcam-ota publish")


def _device_status(folder: Path) -> str:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder of a device")
    state = StateFile(folder).read()
    checked = datetime.fromtimestamp(state.checked, timezone.utc).isoformat(" ") if state.checked else "never"
    rows = [
        ["in use", f"release {state.release}" if state.release else "the models of the software"],
        ["phase", state.phase],
        ["offered", str(state.available or "nothing newer")],
        ["minimum", str(state.minimum)],
        ["checked", checked],
        ["rollbacks", str(state.rollbacks)],
        *([f"bad: {number}", reason] for number, reason in state.bad.items()),
        ["last error", state.error or "none"],
    ]
    return "\n".join(f"{name:12}{value}" for name, value in rows)


def _serve(config: OtaApplicationConfig) -> None:
    folder = Path(config.repository)
    if not (folder / "metadata").is_dir():
        raise FileNotFoundError(f"{folder} is no repository; slimcam-ota init repository={folder} makes one")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", config.port), handler)
    except OSError as error:
        raise OSError(f"port {config.port} cannot be served ({error.strerror}); choose another port=") from error
    show(f"for trying: ota.url=http://127.0.0.1:{server.server_port}")
    server.serve_forever()


def _update(config: OtaApplicationConfig) -> None:
    if config.url is None or config.root is None:
        raise ValueError("where from? give url=http://... and root=FILE, the root metadata that this device trusts")
    _need_tuf()
    from slimcam.deploy.ota.device.update import update

    device = OtaConfig(config.url, config.root, config.folder, config.device, config.device_ring, limit=config.limit)
    settings = Settings(
        url=config.url,
        root=config.root,
        folder=str(device.path),
        device=device.name,
        ring=device.ring,
        limit=device.limit,
        gallery=config.gallery,
        key=config.key,
        detector=config.detector or str(DETECTOR),
        recognizer=config.recognizer or str(RECOGNIZER),
    )
    update(settings, partial(print, flush=True))


COMMANDS: dict[str, Callable[[OtaApplicationConfig], None]] = {
    "init": _init,
    "publish": _publish,
    "promote": _promote,
    "withdraw": _withdraw,
    "rotate": _rotate,
    "renew": _renew,
    "status": _status,
    "serve": _serve,
    "update": _update,
}


def _repository(config: OtaApplicationConfig) -> Repository:
    _need_tuf()
    from slimcam.deploy.ota.publisher.keys import Keyring
    from slimcam.deploy.ota.publisher.repository import Repository

    return Repository(Path(config.repository), Keyring(Path(config.keys)))


def _need_tuf() -> None:
    try:
        import tuf  # noqa: F401
    except ImportError as error:
        raise ImportError("python-tuf is not installed: pip install 'slimcam[ota]'") from error


def _number(config: OtaApplicationConfig) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", config.release or ""):
        raise ValueError(f"a release is named by its number; got {config.release!r}")
    return int(str(config.release))


def _rings(rings: dict[str, int]) -> str:
    return ", ".join(f"{percent} % of {ring}" for ring, percent in rings.items()) or "no device"


if __name__ == "__main__":
    main()
