"""An hour of the whole camera: a clip in real time, with the page, a broker, an encrypted gallery and JSON lines.

    python -m tests.deploy.camera.soak CLIP OUT.json [SECONDS] [OPTION=VALUE ...]

3600 seconds if absent; the options are those of slimcam-camera.

Once a minute the page is read, and what the process holds: resident memory, open files, threads. OUT.json is written
each time, so that a run which is cut short has its figures too; `an_hour` is by how much they grow, see `slopes`.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from tests.deploy.camera.outputs.test_mqtt import Broker, Listener

MINUTE = 60.0


def main(clip: str, out: Path, seconds: float, options: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="slimcam-soak-") as scratch:
        folder = Path(scratch)
        broker = Broker(folder)
        broker.start()
        listener = Listener(broker.port)
        port = free_port()
        words = [
            *(f"source={clip}", "capture.realtime=true", "capture.loop=true", f"seconds={seconds}"),
            *(f"web.port={port}", "outputs.mqtt.host=127.0.0.1", f"outputs.mqtt.port={broker.port}"),
            *("outputs.mqtt.id=soak", f"outputs.lines={folder / 'events.jsonl'}", f"report={folder / 'report.json'}"),
            *options,
        ]
        program = [sys.executable, "-m", "slimcam.deploy.apps.camera", *words]
        with (folder / "camera.log").open("w") as log:
            camera = subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT)
        try:
            record: dict[str, Any] = {"seconds": seconds, "minutes": []}
            begin = time.monotonic()
            while camera.poll() is None:
                try:
                    camera.wait(MINUTE)
                except subprocess.TimeoutExpired:  # noqa: PERF203 - the minute is over
                    figures = {"s": round(time.monotonic() - begin), **held(camera.pid), **page(port)}
                    record["minutes"].append({**figures, "mqtt": listener.heard.qsize()})
                    record["an_hour"] = slopes(record["minutes"])
                    out.write_text(json.dumps(record, indent=1) + "\n")
            report = folder / "report.json"
            record |= {"rc": camera.returncode, "log": (folder / "camera.log").read_text()[-2000:]}
            record["report"] = json.loads(report.read_text()) if report.exists() else None
            out.write_text(json.dumps(record, indent=1) + "\n")
        finally:
            if camera.poll() is None:
                camera.send_signal(signal.SIGTERM)
                camera.wait(30)
            listener.close()
            broker.kill()


def slopes(minutes: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Growth in an hour, by least squares, of what a process holds: over all minutes and over their second half."""
    parts = {"all": minutes, "second_half": minutes[len(minutes) // 2 :]}
    return {
        part: {
            name: round(float(np.polyfit([one["s"] / 3600 for one in some], [one[name] for one in some], 1)[0]), 2)
            for name in ("rss_mb", "files", "threads")
        }
        for part, some in parts.items()
        if len(some) > 1
    }


def held(process: int) -> dict[str, float]:
    """What a process holds: resident MB, open files and threads."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
    )
    return {
        "rss_mb": round(int(status["VmRSS"].split()[0]) / 1000, 1),
        "files": sum(1 for _ in Path(f"/proc/{process}/fd").iterdir()),
        "threads": int(status["Threads"]),
    }


def page(port: int) -> dict[str, Any]:
    """What the page tells of the last minute, p50 and p99 in ms; people are asked for too, for the gallery's sake."""
    state, people = (
        json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{name}", timeout=30))
        for name in ("state", "people")
    )
    stages = {name: [found["p50"], found["p99"]] for name, found in state["stages"].items()}
    counts = {name: state[name] for name in ("frames", "lost", "fps")}
    return {**counts, "stages": stages, "known": len(people["people"])}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(next(iter(sys.argv[3:4]), 3600)), sys.argv[4:])
