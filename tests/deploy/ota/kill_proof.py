"""`kill -9`, and losses of power, at random points of an update: there is always one whole, verified model.

    python -m tests.deploy.ota.kill_proof [POINTS] [SEED]       500 points take about ten minutes

Each round a device looks, downloads, stages, switches, goes through a window and keeps the release or rolls it back
(every third one is bad). Its process dies at a random operation on its folder; in every second round the power fails
with it, so that only what was synced survives for sure. Then a new process must find a whole model that was verified,
none older than what was kept before, and bring the update to its end.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.ota.device import update as update_module
from slimcam.deploy.ota.device.slots import Slots
from slimcam.deploy.ota.device.state import StateFile
from slimcam.deploy.ota.device.update import update
from slimcam.deploy.ota.publisher.keys import PASSPHRASE
from tests.deploy.ota.power import Disk
from tests.deploy.ota.releases import GATE, new_repository, publish, serve, settings, variant

FRAMES = 12
"""Of the simulated window, each a point to die at."""


def is_bad(number: int) -> bool:
    return number % 3 == 0


def life(where: update_module.Settings, disk: Disk, fatal: int, say: int) -> None:
    """A device's process, until its update is over or it dies."""

    def tell(line: str) -> None:
        os.write(say, f"{line}\n".encode())

    disk.watch(fatal)
    # The trial changes nothing on the disk; that it finds what it must is tested elsewhere.
    update_module.try_release = lambda _request: disk.step() or ""  # type: ignore[assignment,func-returns-value]
    file = StateFile(disk.root)
    slots = Slots(disk.root, file)
    tell("phase start")
    slots.start()
    tell("phase update")
    phases = {"detector": "phase download", "recognizer": "phase download and staging", "trying it": "phase trial"}
    update(where, lambda line: [tell(phase) for end, phase in phases.items() if line.endswith(end)])
    tell("phase switch")
    trial, _ = slots.switch()
    if trial is not None:
        tell("phase window")
        for _ in range(FRAMES):
            disk.step()
        tell("phase decision")
        if is_bad(trial.release):
            slots.roll_back("worse on enrolled people")
            tell(f"bad {trial.release}")
        else:
            slots.keep()
            tell(f"kept {trial.release}")
    tell(f"operations {disk.operations}")


def live(where: update_module.Settings, disk: Disk, fatal: int) -> tuple[list[list[str]], bool]:
    """Runs a life in a process of its own: what it told, and whether it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            life(where, disk, fatal, writer)
        except BaseException as error:
            os.write(writer, f"error {type(error).__name__} {error}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        lines = [line.split(maxsplit=1) for line in told]
    status = os.waitpid(child, 0)[1]
    return lines, os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def serving(folder: str, said: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with serve(Path(folder)) as server:
        said.send(server.url)
        said.recv()


def prove(folder: Path, points: int, seed: int) -> str:
    """Kills a device so often; a line with what happened.

    Raises:
        AssertionError: the device had no whole model, an older one, or did not bring the update to its end.
    """
    os.environ[PASSPHRASE] = "correct horse battery staple"
    chance, phases, ends = random.Random(seed), Counter[str](), Counter[str]()
    repository = new_repository(folder)
    recognizers = [RECOGNIZER, variant(RECOGNIZER, folder / "other", noise=0.001, gates=[GATE]).path]
    disk = Disk(folder / "device", folder / "shadow")
    disk.settle()
    context = get_context("fork")
    here, there = context.Pipe()
    server = context.Process(target=serving, args=(str(repository.folder), there), daemon=True)
    server.start()
    where = settings(repository, here.recv(), disk.root)
    acknowledged, bad, losses, begin = 0, set[int](), 0, time.monotonic()

    def check(told: list[list[str]]) -> None:
        nonlocal acknowledged
        for words in told:
            if words[0] == "kept":
                acknowledged = int(words[1])
            elif words[0] == "bad":
                bad.add(int(words[1]))
        state = StateFile(disk.root).read()
        slots = Slots(disk.root, StateFile(disk.root))
        kept = 0 if state.current is None else state.current.release
        assert kept >= acknowledged, f"release {acknowledged} was kept, {kept} is in use"
        assert state.minimum >= kept
        assert bad <= state.bad.keys(), f"{bad - state.bad.keys()} are forgotten"
        for installed in (state.current, state.ready, state.trial):
            assert installed is None or not slots.damage(installed), slots.damage(installed)

    number = publish(repository)
    told, _ = live(where, disk, 0)
    check(told)
    operations = max(int(words[1]) for words in told if words[0] == "operations")
    for point in range(points):
        if number in (acknowledged, *bad):
            number = publish(repository, recognizers[point % 2], DETECTOR)
        # Most operations are those of metadata and staging: every other point is one of the last ones.
        last = operations if point % 4 < 2 else 3 * FRAMES
        told, killed = live(where, disk, operations - chance.randrange(last))
        if killed:
            phases[next((words[1].strip() for words in reversed(told) if words[0] == "phase"), "start")] += 1
        if killed and point % 2:
            losses += 1
            disk.lose_power(chance)
        check(told)
        told, killed = live(where, disk, 0)
        assert not killed
        assert not [words for words in told if words[0] == "error"], told
        check(told)
        state = StateFile(disk.root).read()
        assert state.phase == "idle"
        assert state.release == number or number in state.bad, f"release {number} is neither kept nor bad: {state}"
        ends["rolled back" if number in state.bad else "kept"] += 1
        leftover = {path.name for path in disk.root.iterdir()}
        known = {"state.json", "state.lock", "update.lock", "metadata", "slot-a", "slot-b"}
        assert leftover <= known, leftover - known
        bad |= state.bad.keys()
        acknowledged = 0 if state.current is None else state.current.release
        if sys.stderr.isatty() or point % 100 == 99:
            print(f"{point + 1} of {points} points", file=sys.stderr, flush=True)
    here.send(None)
    server.join(5)
    by_phase = ", ".join(f"{phase} {count}" for phase, count in phases.items())
    return (
        f"{points} points, {sum(phases.values())} kills ({by_phase}), {losses} of them with a loss of power; updates "
        f"afterwards: {ends['kept']} kept, {ends['rolled back']} rolled back; never without a whole, verified model "
        f"({time.monotonic() - begin:.0f} s, seed {seed})"
    )


def main() -> None:
    points, seed = (int(word) for word in (sys.argv[1:] + ["500", "0"][len(sys.argv) - 1 :]))
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        print(prove(folder, points, seed))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
