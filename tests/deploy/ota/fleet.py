"""A fleet of simulated devices against one static server: a staged roll-out, and a bad release that is halted.

    python -m tests.deploy.ota.fleet [DEVICES]       1,000 take about ten minutes

Each device is a real TUF client with slots and a state of its own; downloads, signatures and staging are real, from
nginx where there is one. The trial, the health window and the hours between looks are simulated: a device looks once an
hour, ten percent more or less, in the order of a virtual clock. An operator looks at the reports of the devices, which
they give by MQTT or Prometheus, every ten minutes: a stage is promoted when nine tenths of its devices have the
release, and the release is withdrawn when more than two percent of the reports, and five at least, are failures.
"""

from __future__ import annotations

import heapq
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.deploy.ota.device import update as update_module
from slimcam.deploy.ota.device.fetcher import LimitedFetcher
from slimcam.deploy.ota.device.settings import Settings
from slimcam.deploy.ota.device.slots import Slots
from slimcam.deploy.ota.device.state import StateFile
from slimcam.deploy.ota.publisher.keys import PASSPHRASE
from slimcam.deploy.ota.publisher.repository import Repository
from tests.deploy.ota.nginx_end_to_end import NGINX, nginx
from tests.deploy.ota.releases import new_repository, publish, serve, settings, variant

STAGES = (("canary", 100), ("stable", 10), ("stable", 50), ("stable", 100))
CANARIES = 0.02
HOUR = 3600.0
OPERATOR = 600.0
ENOUGH, ERROR_SHARE, ERRORS = 0.9, 0.02, 5


@dataclass
class Device:
    """A simulated device."""

    settings: Settings
    bytes: int = 0

    def __post_init__(self) -> None:
        self.slots = Slots(Path(self.settings.folder), StateFile(Path(self.settings.folder)))

    def look(self, fails: Callable[[int], bool]) -> None:
        """Looks and, where there is a release, goes through its window."""
        fetched: list[LimitedFetcher] = []

        def fetcher(limit: int | None) -> LimitedFetcher:
            fetched.append(LimitedFetcher(limit))
            return fetched[-1]

        update_module.LimitedFetcher = fetcher  # type: ignore[assignment,misc]
        update_module.update(self.settings)
        self.bytes += sum(one.received for one in fetched)
        trial, _ = self.slots.switch()
        if trial is None:
            return
        if fails(trial.release):
            self.slots.roll_back("views of enrolled people recognized: too few")
        else:
            self.slots.keep()
        # A thousand devices have one disk here; what is in the slot was verified.
        shutil.rmtree(self.slots.folder / f"slot-{trial.slot}")


@dataclass
class Outcome:
    """How a roll-out ended.

    Attributes:
        hours: by the virtual clock, until all have it, or until it was withdrawn.
        reached: devices that took it.
        failed: devices that it failed on.
        after: devices that took it after the operator had withdrawn it.
        looks: at the server.
        bytes: that were downloaded.
        seconds: that the simulation took.
    """

    hours: float = 0.0
    reached: int = 0
    failed: int = 0
    after: int = 0
    looks: int = 0
    bytes: int = 0
    seconds: float = 0.0


def roll_out(
    repository: Repository, devices: list[Device], number: int, fails: Callable[[Device, int], bool], seed: int
) -> Outcome:
    """Rolls a release out, see the module."""
    chance, begin, outcome = random.Random(seed), time.monotonic(), Outcome()
    fetched = sum(device.bytes for device in devices)
    queue = [(chance.uniform(0, HOUR), index) for index in range(len(devices))]
    heapq.heapify(queue)
    stage, operator, withdrawn, halted_at = 0, OPERATOR, False, 0.0
    took: set[int] = set()
    failed: set[int] = set()
    repository.promote(number, dict([STAGES[0]]))
    while True:
        now, index = heapq.heappop(queue)
        while operator <= now and not withdrawn:
            operator += OPERATOR
            reports = len(took)
            if len(failed) >= ERRORS and len(failed) > ERROR_SHARE * reports:
                repository.withdraw(number)
                withdrawn, halted_at = True, now
                continue
            release = repository.releases()[number - 1]
            offered = {i for i, one in enumerate(devices) if release.offered(one.settings.device, one.settings.ring)}
            if len(took & offered) >= ENOUGH * len(offered) and stage + 1 < len(STAGES):
                stage += 1
                repository.promote(number, dict([STAGES[stage]]))
        device = devices[index]
        device.look(partial(fails, device))
        outcome.looks += 1
        state = device.slots.file.read()
        if index not in took and (state.release == number or number in state.bad):
            took.add(index)
            outcome.after += withdrawn
            if number in state.bad:
                failed.add(index)
        heapq.heappush(queue, (now + HOUR * chance.uniform(0.9, 1.1), index))
        if outcome.looks % 500 == 0:
            print(
                f"  {now / HOUR:4.1f} h, stage {STAGES[stage]}: {len(took)} have taken it", file=sys.stderr, flush=True
            )
        if len(took) == len(devices) or (withdrawn and now > halted_at + 1.2 * HOUR):
            break
    outcome.hours = (halted_at if withdrawn else now) / HOUR
    outcome.reached, outcome.failed = len(took), len(failed)
    outcome.bytes = sum(device.bytes for device in devices) - fetched
    outcome.seconds = time.monotonic() - begin
    return outcome


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    os.environ[PASSPHRASE] = "correct horse battery staple"
    os.fsync = lambda _descriptor: None  # type: ignore[assignment]
    update_module.try_release = lambda _request: ""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        with ExitStack() as running:
            repository = new_repository(folder)
            url = running.enter_context(
                nginx(repository.folder, folder / "nginx") if NGINX else serve(repository.folder)
            )
            address = url if isinstance(url, str) else url.url
            ring = ["canary" if index < CANARIES * count else "stable" for index in range(count)]
            devices = [
                Device(settings(repository, address, folder / f"devices/{i}", device=f"camera-{i}", ring=ring[i]))
                for i in range(count)
            ]
            good = publish(repository, rings={})
            report("a good release", roll_out(repository, devices, good, lambda _device, _release: False, 1), count)
            bad = publish(repository, variant(RECOGNIZER, folder / "bad", noise=0.5).path, rings={})
            for share in (0.3, 0.05):
                found = roll_out(repository, devices, bad, partial(is_weak, share), 2)
                report(f"a release that fails on {share:.0%} of the devices", found, count)
                bad = publish(repository, variant(RECOGNIZER, folder / f"bad{share}", noise=0.4).path, rings={})
    finally:
        shutil.rmtree(folder)


def is_weak(share: float, device: Device, _release: int) -> bool:
    """Whether a device is one of those that a release fails on."""
    return random.Random(device.settings.device).random() < share


def report(what: str, outcome: Outcome, count: int) -> None:
    print(
        f"{what}: {outcome.reached} of {count} devices took it, it failed on {outcome.failed}, {outcome.after} took it "
        f"after it was withdrawn; {outcome.hours:.1f} h, {outcome.looks:,} looks, {outcome.bytes / 1e6:,.0f} MB "
        f"({outcome.bytes / count / 1e6:.2f} MB a device); simulated in {outcome.seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
