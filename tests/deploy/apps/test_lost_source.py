"""What a camera says of a source that is lost, to all who listen: with a real RTSP server and mosquitto."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slimcam.training.data.recognition.synthetic import draw_face
from tests.deploy.apps.test_camera import environment
from tests.deploy.camera.outputs.test_mqtt import Broker, Listener, mosquitto, until  # noqa: F401  # a fixture
from tests.deploy.camera.sources.test_rtsp import Server


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered face, large enough to be found."""
    image = np.full((360, 640, 3), (90, 110, 130), np.uint8)
    image[70:290, 210:430] = cv2.resize(draw_face(3, 0), (220, 220), interpolation=cv2.INTER_CUBIC)
    file = tmp_path_factory.mktemp("portrait") / "face.jpg"
    cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return file


@pytest.fixture
def server(portrait: Path) -> Iterator[Server]:
    server = Server(portrait)
    server.start()
    yield server
    server.kill()


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def shown(page: str) -> tuple[str, int]:
    """What the page says of the source, and how many faces it shows, -1 before its first frame."""
    state = json.loads(fetched(f"{page}api/state"))
    return state["source_state"]["state"], -1 if state["frame"] is None else len(state["frame"]["faces"])


def heard(listener: Listener, topic: str, **expected: Any) -> dict[str, Any]:
    """The next message of a topic that is as expected."""
    while True:
        found: dict[str, Any] = json.loads(listener.next(topic))
        if expected.items() <= found.items():
            return found


def test_people_leave_with_the_stream_and_all_are_told_that_it_is_lost(
    server: Server,
    mosquitto: None,  # noqa: F811, ARG001
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path)
    broker.start()
    listener = Listener(broker.port)
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "slimcam.deploy.apps.camera",
                f"source={server.url}",
                "web.port=0",
                "capture.timeout=3",
            ),
            *("outputs.mqtt.host=127.0.0.1", f"outputs.mqtt.port={broker.port}", "outputs.mqtt.id=door"),
            *("outputs.metrics.port=0", "outputs.lines=lines.jsonl"),
        ],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        urls: dict[str, str] = {}
        while not {"page", "metrics"} <= set(urls):
            if found := re.search(r"the (page|metrics) (?:is|are) at (\S+)", process.stderr.readline()):
                urls[found[1]] = found[2]
        heard(listener, "slimcam/door/source", state="connected", connected=True, kind="live")
        listener.state(people=1, present=True)
        assert "slimcam_source_connected 1.0" in fetched(urls["metrics"])
        # The page takes note of a frame after the others have been told.
        until(lambda: shown(urls["page"]) == ("connected", 1))

        killed = time.time()
        server.kill()
        lost = heard(listener, "slimcam/door/source", state="lost", connected=False)
        assert lost["since"] is not None
        listener.state(people=0, present=False)
        until(lambda: shown(urls["page"]) == ("lost", 0))
        assert time.time() - killed < 8
        figures = fetched(urls["metrics"])
        assert "slimcam_source_connected 0.0" in figures
        assert re.search(r"^slimcam_faces 0.0$", figures, re.MULTILINE)
        assert float(re.search(r"^slimcam_source_lost_seconds (\S+)$", figures, re.MULTILINE)[1]) > 0  # type: ignore[index]
        state = json.loads(fetched(f"{urls['page']}api/state"))
        assert (state["source_state"]["state"], state["frame"]["faces"]) == ("lost", [])
        assert state["events"][0]["kind"] == "left"
        assert state["source_state"]["since"] == pytest.approx(killed, abs=2)

        server.start()
        heard(listener, "slimcam/door/source", state="connected")
        listener.state(people=1)
        process.terminate()
        heard(listener, "slimcam/door/source", state="ended")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
        listener.close()
        broker.kill()
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    # With its end, too, everybody leaves.
    assert kinds.count("appeared") == kinds.count("left") == 2
