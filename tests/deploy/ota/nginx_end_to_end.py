"""A release reaches a camera by way of nginx: how soon, and what the frames at the switch cost.

    python -m tests.deploy.ota.nginx_end_to_end [SECONDS] [--bad]

A clip of rendered people is played in real time to `slimcam-camera`, some enrolled with their crops. While it runs
`slimcam-ota publish` makes a release whose recognizer has other weights, so that its embeddings are of another space.
With `--bad` the weights are so far off that it recognizes nobody: it must come and go.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.deploy.ota.publisher.keys import PASSPHRASE
from slimcam.training.tools.demo_clip import ClipConfig, write_clip
from tests.deploy.ota.releases import variant

ROOT = Path(__file__).resolve().parents[3]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

CONFIGURATION = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr crit;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {public};
  }}
}}
"""


@dataclass(frozen=True)
class Found:
    """What came out.

    Attributes:
        seconds: from the publication to the first frame of the new models.
        kept: from the publication to the end of the window, seconds.
        lost: frames of the source that were dropped from a second before the switch to a second after it, and ever.
        p99: of `result` in the frames two seconds around the switch, and in all others, ms.
        worst: of the frames two seconds around the switch, ms.
        lines: what the camera told of its updates.
    """

    seconds: float
    kept: float
    lost: tuple[int, int]
    p99: tuple[float, float]
    worst: float
    frames: int
    lines: list[str]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def nginx(public: Path, folder: Path) -> Iterator[str]:
    """Debian's nginx with a folder; gives its address."""
    port = free_port()
    folder.mkdir()
    # Its workers give up root's rights otherwise, and cannot read what lies in a temporary folder.
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, public=public, port=port, user=user))
    with subprocess.Popen([str(NGINX), "-c", str(folder / "nginx.conf"), "-p", str(folder)]) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"{url}/metadata/timestamp.json").close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield url
        finally:
            server.terminate()


def run(folder: Path, *, seconds: float, noise: float, window: int) -> Found:
    """Plays the clip and publishes; see the module."""
    write_clip(folder / "scene", ClipConfig(seconds=6, people=2, unknown=1, seed=28))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), PASSPHRASE: "correct horse battery staple"}
    variant(RECOGNIZER, folder / "new", noise=noise, seed=1)
    gallery = [f"gallery={folder / 'data/gallery.db'}", f"key={folder / 'key/gallery.key'}"]

    def call(module: str, *words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", module, *words], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
        )

    for person in sorted((folder / "scene/people").iterdir()):
        call(
            "slimcam.deploy.apps.faces",
            "enroll",
            person.name,
            str(person),
            "consent=drawn",
            "keep_crops=true",
            *gallery,
        )
    call("slimcam.deploy.apps.ota", "init")
    with (
        nginx(folder / "ota/public", folder / "nginx") as url,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "slimcam.deploy.apps.camera", f"source={folder / 'scene/clip.mp4'}"),
                *("capture.realtime=true", "capture.loop=true", f"seconds={seconds}", "web.port=null", *gallery),
                *("outputs.lines=frames.jsonl", "outputs.lines_of=frames", f"ota.url={url}", "ota.every=3"),
                *(f"ota.root={folder / 'ota/public/metadata/1.root.json'}", f"ota.folder={folder / 'device'}"),
                f"ota.window={window}",
            ],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as camera,
    ):
        time.sleep(8)
        call("slimcam.deploy.apps.ota", "publish", f"recognizer={folder / 'new'}", "ring=stable", "slowdown=300")
        published = time.time()
        told: list[tuple[float, str]] = []
        assert camera.stderr is not None
        for line in camera.stderr:
            if re.search(r"release|rolled back|update", line):
                told.append((time.time(), line.strip().removeprefix("slimcam-camera: ")))
                print(f"{told[-1][0] - published:6.1f} s  {told[-1][1]}", flush=True)
    frames = [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]
    switched = next(at for at, line in told if "is tried for" in line)
    ended = next(at for at, line in told if "is kept" in line or "rolled back" in line)
    return figures(frames, published, switched, ended, [line for _, line in told])


def figures(frames: list[dict[str, Any]], published: float, switched: float, ended: float, lines: list[str]) -> Found:
    at = np.array([frame["at"] for frame in frames])
    result = np.array([frame["milliseconds"]["result"] for frame in frames])
    lost = np.array([frame["lost"] for frame in frames])
    near = (np.abs(at - switched) < 1) | (np.abs(at - ended) < 1)
    return Found(
        seconds=switched - published,
        kept=ended - published,
        lost=(int(lost[near].sum()), int(lost.sum())),
        p99=(float(np.percentile(result[near], 99)), float(np.percentile(result[~near], 99))),
        worst=float(result[near].max()),
        frames=len(frames),
        lines=lines,
    )


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--bad"]
    if NGINX is None:
        sys.exit("there is no nginx: apt-get install nginx")
    with tempfile.TemporaryDirectory() as folder:
        found = run(
            Path(folder),
            seconds=float(words[0]) if words else 60,
            noise=1.0 if "--bad" in sys.argv else 0.002,
            window=100,
        )
    print(
        f"switched after {found.seconds:.1f} s, decided after {found.kept:.1f} s; frames lost within a second of the "
        f"switch and of the end of the window: {found.lost[0]}, of {found.frames:,} in all: {found.lost[1]}; result "
        f"p99 there {found.p99[0]:.1f} ms (worst {found.worst:.1f}), elsewhere {found.p99[1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
