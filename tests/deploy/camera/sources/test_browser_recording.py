"""What a browser records: WebM whose header tells no frame rate, or 1000."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import cv2
import pytest

from slimcam.deploy.camera.outputs.config import OutputsConfig
from slimcam.deploy.camera.outputs.opening import close_all, open_outputs
from slimcam.deploy.camera.sources import open_source
from slimcam.deploy.types import View

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

RECORD = """async () => {
    const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
    [canvas.width, canvas.height] = [160, 120];
    const recorder = new MediaRecorder(canvas.captureStream(20), {mimeType: "video/webm;codecs=vp8"}), parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    const ended = new Promise((resolve) => { recorder.onstop = resolve; });
    recorder.start();
    for (let i = 0; i < 24; i++) {
        context.fillStyle = `rgb(${10 * i}, 80, 120)`;
        context.fillRect(0, 0, 160, 120);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    recorder.stop();
    await ended;
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
}"""


def test_a_recording_of_a_browser_is_read_and_made_a_video_of(tmp_path: Path) -> None:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        (tmp_path / "clip.webm").write_bytes(base64.b64decode(page.evaluate(RECORD)))
        browser.close()
    source = open_source(str(tmp_path / "clip.webm"))
    assert 5 < source.fps < 60
    outputs = open_outputs(OutputsConfig(video=str(tmp_path / "seen.mkv")), source.fps)
    frames = list(source)
    for frame in frames:
        for output in outputs:
            output.show(View(frame, (), (), {}))
    close_all(outputs)
    assert len(frames) > 10
    assert source.notes == []
    seen = cv2.VideoCapture(str(tmp_path / "seen.mkv"))
    seconds = seen.get(cv2.CAP_PROP_FRAME_COUNT) / seen.get(cv2.CAP_PROP_FPS)
    assert seconds == pytest.approx(frames[-1].seconds, abs=0.3)
