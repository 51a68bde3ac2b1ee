"""What malformed bundles do to an application: `python -m slimcam.pipeline.tools.mutations --json FILE`.

Each mutation changes one file of a bundle at random, and signs the manifest again, as whoever made it on purpose would.
Then it is opened as an application opens it: the bundle is checked, the model tried in a process of its own
(`slimcam.deploy.inference.probe`), opened and run. The application must refuse it in one line or take it; it must not
crash, hang, or raise anything else.

Both the application and the trial are forked from this process, which has the libraries loaded, so that a mutation
takes hundredths of a second.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.common.files import file_sha256, write_text
from slimcam.deploy.inference import probe
from slimcam.deploy.inference.bundle import DETECTOR, load_bundle
from slimcam.deploy.inference.interpreter import import_runtime
from slimcam.deploy.inference.manifest import GOLDEN, MANIFEST, MODEL, digest
from slimcam.deploy.inference.model import BundledModel

logger = logging.getLogger(__name__)

KINDS = (MODEL, MANIFEST, GOLDEN)
_SHARES = (5, 4, 1)
_SECONDS = 20.0
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0)
_VALUES: tuple[Any, ...] = (None, True, -1, 0, 1e308, 2**64, "", "x" * 10_000, "\u0000", [], {}, [[[]]], {"a": None})


@dataclass
class Result:
    """What became of the mutations.

    Attributes:
        mutations: Number of each kind of file.
        outcomes: How often each thing happened, by kind of file.
        failures: Mutations (number and what happened) after which the application crashed, hung, or raised an error
            that is none of its own.
        seed: What they were drawn with.
        seconds: What all took.
    """

    mutations: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seed: int = 0
    seconds: float = 0.0


def mutate_all(bundle: Path, count: int, seed: int = 0, first: int = 0) -> Result:
    """Makes and opens `count` mutations of a bundle, half of them of its model, from the one numbered `first`."""
    result, started = Result(seed=seed), time.monotonic()
    tallies = {kind: Counter[str]() for kind in KINDS}
    ranges = structure((bundle / MODEL).read_bytes())
    _, library = import_runtime()
    for number in range(first, first + count):
        rng = random.Random(f"{seed} {number}")
        kind = rng.choices(KINDS, _SHARES)[0]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "bundle"
            shutil.copytree(bundle, folder)
            _MUTATIONS[kind](folder, rng, ranges)
            outcome = outcome_of(folder, library)
        tallies[kind][outcome] += 1
        if outcome.startswith("FAILED"):
            result.failures.append(f"{number} {kind}: {outcome}")
            logger.warning(result.failures[-1])
        if (number + 1 - first) % 500 == 0:
            logger.info(f"{number + 1 - first} of {count} mutations, {len(result.failures)} failures")
    result.mutations = {kind: tally.total() for kind, tally in tallies.items()}
    result.outcomes = {kind: dict(tally.most_common()) for kind, tally in tallies.items()}
    result.seconds = round(time.monotonic() - started, 1)
    return result


def outcome_of(folder: Path, library: Any) -> str:
    """What an application makes of a bundle."""
    return _forked(lambda: _application(folder, library), "FAILED: the application", 3 * _SECONDS)


def _application(folder: Path, library: Any) -> str:
    try:
        load_bundle(folder)
    except (ValueError, OSError) as error:
        return _one("refused by its digests or entries", error)
    tried = _forked(lambda: json.dumps(_trial(folder / MODEL, library)), "refused: the trial")
    if tried.startswith("refused"):
        return tried
    if json.loads(tried)["kind"]:
        return "refused by the runtime in its trial"
    probe.expendable()  # the trial was made
    try:
        BundledModel(folder)
    except (ValueError, OSError, RuntimeError) as error:
        return _one("refused when opened", error)
    return "taken: it gives its golden outputs"


def _one(outcome: str, error: Exception) -> str:
    return f"FAILED: {type(error).__name__} of several lines" if "\n" in str(error) else outcome


def _trial(model: Path, library: Any) -> dict[str, str]:
    probe.sacrifice()
    return probe.open_and_run(library, model)


def _forked(work: Callable[[], str], who: str, seconds: float = _SECONDS) -> str:
    """What a function gives in a process of its own, or how that ended, after `who`."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        text = ""
        try:
            os.close(receiver)
            # Who waits says how it ended.
            faulthandler.disable()
            signal.setitimer(signal.ITIMER_REAL, 0)
            text = work()
        except BaseException as error:
            text = f"{who} raised {type(error).__name__}"
        finally:
            os.write(sender, text.encode()[:4096])
            os._exit(0)
    os.close(sender)
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(receiver)
            return f"{who} hung"
        time.sleep(0.001)
    with os.fdopen(receiver, "rb") as pipe:
        text = pipe.read().decode()
    return text if os.WIFEXITED(status) else f"{who} crashed ({signal.Signals(os.WTERMSIG(status)).name})"


def structure(model: bytes) -> list[tuple[int, int]]:
    """The parts of a `.tflite` file, from-to, that are not the weights: where a change means something else."""
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(model)
    weights = []
    for index in range(root.BuffersLength()):
        buffer = root.Buffers(index)
        if buffer.DataLength() > 64:
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            weights.append((start, start + buffer.DataLength()))
    parts, begin = [], 0
    for start, end in [*sorted(weights), (len(model), len(model))]:
        if begin < start:
            parts.append((begin, start))
        begin = max(begin, end)
    return parts


def _mutate_model(folder: Path, rng: random.Random, ranges: Sequence[tuple[int, int]]) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        start, end = rng.choices(ranges, [end - start for start, end in ranges])[0]
        _change_bytes(content, rng.randrange(start, end), rng)
    (folder / MODEL).write_bytes(bytes(content))
    _sign(folder)


def _change_bytes(content: bytearray, place: int, rng: random.Random) -> None:
    """Changes a byte, a word, or a stretch at a place."""
    what = rng.randrange(6)
    if what == 0:
        content[place % len(content)] = rng.randrange(256)
    elif what == 1:
        content[place % len(content)] ^= 1 << rng.randrange(8)
    elif what == 2:
        word = rng.choice((*_EXTREMES, rng.randrange(1 << 32), rng.randrange(1 << 10)))
        place -= place % 4
        content[place : place + 4] = word.to_bytes(4, "little")
    elif what == 3:
        del content[max(place, 16) :]
    elif what == 4:
        length = rng.randrange(1, 64)
        source = rng.randrange(len(content))
        content[place : place + length] = content[source : source + length]
    else:
        content[place : place + rng.randrange(1, 64)] = bytes(rng.randrange(1, 64))


def _mutate_manifest(folder: Path, rng: random.Random, _: Any) -> None:
    file = folder / MANIFEST
    if rng.random() < 0.25:
        content = bytearray(file.read_bytes())
        for _ in range(rng.choice((1, 2, 8))):
            _change_bytes(content, rng.randrange(len(content)), rng)
        file.write_bytes(bytes(content))
        return
    manifest = json.loads(file.read_text())
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(list(_places(manifest)))
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = rng.choice((*_VALUES, rng.random(), rng.randrange(-(2**33), 2**33)))
    if "sha256" in manifest and rng.random() < 0.95:
        manifest.pop("sha256")
        manifest["sha256"] = digest(manifest)
    file.write_text(json.dumps(manifest))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Everything in a JSON value: what holds it, and its key or index there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _mutate_golden(folder: Path, rng: random.Random, _: Any) -> None:
    content = bytearray((folder / GOLDEN).read_bytes())
    for _ in range(rng.choice((1, 2, 8))):
        # Its directory is at the end, the heads of its members at their beginnings.
        ends = (rng.randrange(256), len(content) - 1 - rng.randrange(256), rng.randrange(len(content)))
        _change_bytes(content, rng.choice(ends) % len(content), rng)
    (folder / GOLDEN).write_bytes(bytes(content))
    _sign(folder)


def _sign(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop("sha256")
    manifest["files"] = {name: file_sha256(folder / name) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "sha256": digest(manifest)}))


_MUTATIONS = {MODEL: _mutate_model, MANIFEST: _mutate_manifest, GOLDEN: _mutate_golden}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ends with an error where a mutation took the application down."""
    parser = argparse.ArgumentParser(prog="python -m slimcam.pipeline.tools.mutations", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DETECTOR, help="folder of a bundle; slimcam's detector")
    parser.add_argument("--count", type=int, default=10_000, help="number of mutations; %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="what they are drawn with; %(default)s")
    parser.add_argument("--first", type=int, default=0, help="number of the first one; %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    options = parser.parse_args(arguments)
    log_to_console(to_stdout=("__main__",))
    result = mutate_all(options.bundle, options.count, options.seed, options.first)
    if options.json is not None:
        write_text(options.json, json.dumps(asdict(result), indent=2) + "\n")
    for kind, outcomes in result.outcomes.items():
        show(f"{result.mutations[kind]} mutations of {kind}")
        for outcome, number in outcomes.items():
            show(f"  {number:6} {outcome}")
    if result.failures:
        raise SystemExit(f"{len(result.failures)} mutations took the application down: {result.failures[:5]}")


if __name__ == "__main__":
    main()
