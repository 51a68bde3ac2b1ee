"""Changes a gallery until it is killed: forks a child for each line on stdin, which prints what it does and has done.

    python gallery_worker.py GALLERY KEY

A line is a seed. `> PID` the child; `+ ID NAME` enrolled, `? ID HEX` about to be forgotten, with
the encrypted name, `- ID` forgotten. A name is its number of templates and a seed of their embeddings.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
from pathlib import Path

import numpy as np

from slimcam.deploy.gallery.crops import encode_crop
from slimcam.deploy.gallery.gallery import Gallery, Template

SIZE = 128


def templates(name: str) -> list[Template]:
    count, seed = map(int, name.split("-"))
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((count, SIZE)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    # One with a crop that is more than a page, which noise makes of it.
    crop = encode_crop(rng.integers(0, 256, (112, 112, 3)).astype(np.uint8))
    return [Template(one, crop if i == 0 else None, f"{name}/{i}") for i, one in enumerate(embeddings)]


def work(path: Path, key: Path, seed: int) -> None:
    def say(*words: str) -> None:
        os.write(1, (" ".join(words) + "\n").encode())

    choose = random.Random(seed)
    with Gallery(path, "a" * 64, SIZE, key) as gallery:
        there = [one.id for one in gallery.people()]
        while True:
            if there and choose.random() < 0.5:
                id = there.pop(choose.randrange(len(there)))
                with sqlite3.connect(path, 30) as other:
                    (encrypted,) = other.execute("SELECT name FROM people WHERE id = ?", (id,)).fetchone()
                other.close()
                say("?", id, encrypted.hex())
                gallery.forget(id)
                say("-", id)
            else:
                name = f"{choose.randrange(1, 6)}-{choose.randrange(10**9)}"
                there.append(gallery.enroll(name, templates(name), consent="rendered").id)
                say("+", there[-1], name)


def main() -> None:
    path, key = Path(sys.argv[1]), Path(sys.argv[2])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(path, key, int(line))
        os.write(1, f"> {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b".\n")


if __name__ == "__main__":
    main()
