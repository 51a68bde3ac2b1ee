"""`SLIMCAM_KILLS=200 pytest tests/deploy/gallery/test_gallery_killed.py` for more than the usual 20 rounds."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from slimcam.deploy.gallery.gallery import Gallery

ROOT = Path(__file__).resolve().parents[3]
WORKER = Path(__file__).with_name("gallery_worker.py")
ROUNDS = int(os.environ.get("SLIMCAM_KILLS", "20"))

spec = importlib.util.spec_from_file_location("gallery_worker", WORKER)
assert spec is not None
assert spec.loader is not None
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)


def test_a_gallery_whose_process_is_killed_holds_what_was_acknowledged_and_no_half_person(tmp_path: Path) -> None:
    path, key = tmp_path / "data/gallery.db", tmp_path / "conf/gallery.key"
    choose = random.Random(0)
    known: dict[str, str] = {}
    gone: dict[str, bytes] = {}
    changes = interrupted = journals = 0
    with subprocess.Popen(
        [sys.executable, str(WORKER), str(path), str(key)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(ROUNDS):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            said: list[list[str]] = []
            # Its pid may come after its first words.
            while not any(words[0] == ">" for words in said):
                said.append(process.stdout.readline().split())
            child = int(next(words[1] for words in said if words[0] == ">"))
            time.sleep(choose.uniform(0, 0.5))
            os.kill(child, signal.SIGKILL)
            while said[-1] != ["."]:
                said.append(process.stdout.readline().split())
            journals += path.with_name("gallery.db-journal").exists()
            begun: tuple[str, str] | None = None
            for kind, *words in said[:-1]:
                if kind == "+":
                    known[words[0]] = words[1]
                elif kind == "?":
                    begun = words[0], words[1]
                elif kind == "-":
                    assert begun is not None
                    del known[words[0]]
                    gone[begun[0]], begun = bytes.fromhex(begun[1]), None
                changes += kind in "+-"
            with Gallery(path, "a" * 64, worker.SIZE, key) as gallery:
                people = {one.id: one for one in gallery.people()}
                if begun is not None and begun[0] not in people:  # committed, but not acknowledged any more
                    del known[begun[0]]
                    gone[begun[0]] = bytes.fromhex(begun[1])
                    interrupted += 1
                assert known.keys() <= people.keys()
                assert len(people.keys() - known.keys()) <= 1
                interrupted += len(people.keys() - known.keys())
                for id, person in people.items():
                    known[id] = person.name
                    expected, found = worker.templates(person.name), gallery.templates(id)
                    assert [(one.source, one.crop) for one in found] == [(one.source, one.crop) for one in expected]
                    np.testing.assert_array_equal([x.embedding for x in found], [x.embedding for x in expected])
                enrollments = {one.person for one in gallery.audit() if one.action == "enrol"}
                forgotten = {one.person for one in gallery.audit() if one.action == "forget"}
                assert enrollments - forgotten == people.keys()
            # The opening has cleaned up after those who were killed.
            for file in path.parent.iterdir():
                content = file.read_bytes()
                assert not [id for id, encrypted in gone.items() if encrypted in content]
        process.stdin.close()
    print(f"{ROUNDS} kills, {changes} changes acknowledged, {interrupted} more committed, {journals} hot journals")
    assert changes > 0
