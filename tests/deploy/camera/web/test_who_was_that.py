"""Who was that? In a real browser, with the recognizer, an encrypted gallery and rendered people.

Run with SLIMCAM_SHOTS=FOLDER for screenshots.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimcam.deploy.camera.known_people import KnownPeople
from slimcam.deploy.camera.unknown_keeper import UnknownKeeper
from slimcam.deploy.camera.web.config import WebConfig
from slimcam.deploy.camera.web.naming import Naming
from slimcam.deploy.camera.web.server import Web
from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.gallery.people import Template
from slimcam.deploy.gallery.unknown_faces import UnknownFaces
from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.training.data.recognition.synthetic import draw_face
from tests.deploy.camera.web.test_browser import CHROMIUM, LONG, browser, shot, until, visited  # noqa: F401  # a fixture

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(RECOGNIZER, check=False)


@dataclass
class Home:
    """A camera's page without a camera, and what lies behind it."""

    known: KnownPeople
    faces: UnknownFaces
    page: Web
    folder: Path

    def gallery(self) -> Gallery:
        found = self.known.open()
        assert found is not None
        return found


@pytest.fixture
def home(tmp_path: Path, recognizer: Recognizer) -> Iterator[Home]:
    gallery, key = tmp_path / "data/gallery.db", tmp_path / "key/gallery.key"
    known = KnownPeople(recognizer, str(gallery), str(key), 0.001, 0.0, QualityConfig())
    known.threshold = 0.9  # rendered people are much alike
    faces = UnknownFaces(gallery.parent / "unknown", key, recognizer.bundle.sha256, 7, 50)
    keeper = UnknownKeeper(faces)
    page = Web(WebConfig(port=0), known.open, known.enroll, lambda: "running", unknown=Naming(keeper, known))
    yield Home(known, faces, page, gallery.parent / "unknown")
    page.close()
    keeper.close()
    known.close()


def kept(home: Home, recognizer: Recognizer, person: int, shots: int = 1, variant: int = 0) -> None:
    """Somebody was seen, and nearly the same a moment later."""
    crop = draw_face(person, variant)
    for number in range(shots):
        face = np.clip(crop.astype(int) + 3 * number, 0, 255).astype(np.uint8)
        home.faces.keep(time.time() - 60 * person - number, recognizer.embed(face[np.newaxis])[0], face)


def files(home: Home) -> int:
    return len(list(home.folder.iterdir()))


@pytest.mark.parametrize("width", [1280, 390])
def test_unknown_faces_are_named_added_and_deleted(
    browser: Any,  # noqa: F811
    home: Home,
    recognizer: Recognizer,
    width: int,
) -> None:
    kept(home, recognizer, 1, shots=3)
    kept(home, recognizer, 2, shots=2)
    kept(home, recognizer, 3)
    options = {"viewport": {"width": width, "height": 900}}
    with visited(browser, home.page.url, **options) as (page, complaints):
        page.locator("#groups li").nth(2).wait_for(timeout=LONG)
        page.locator("#groups img").last.wait_for(timeout=LONG)
        whole = "[...document.querySelectorAll('#groups img')].every((one) => one.naturalWidth === 112)"
        until(lambda: page.evaluate(whole))
        assert [group.locator("img").count() for group in page.locator("#groups li").all()] == [3, 2, 1]
        page.wait_for_timeout(300)
        shot(page, f"who-was-that-{width}", full=True)

        page.locator("#groups li").nth(0).get_by_role("button", name="Name").click()
        page.locator("#naming-name").fill("Ada")
        page.locator("#naming-consent").fill("herself, 3 May")
        shot(page, f"naming-{width}")
        page.locator("#naming-do").click()
        page.locator("#people b", has_text="Ada").wait_for(timeout=LONG)
        page.locator("#groups li").nth(2).wait_for(state="detached", timeout=LONG)
        with home.gallery() as gallery:
            (ada,) = gallery.people()
            assert (ada.name, ada.templates, ada.consent) == ("Ada", 3, "herself, 3 May")
        assert files(home) == 3

        # The other face of hers: one click adds it.
        page.locator("#groups li").nth(0).get_by_role("button", name="Name").click()
        page.locator("#naming-people button", has_text="Add to Ada").click()
        page.locator("#groups li").nth(1).wait_for(state="detached", timeout=LONG)
        with home.gallery() as gallery:
            assert [(one.name, one.templates) for one in gallery.people()] == [("Ada", 5)]

        page.locator("#groups li").get_by_role("button", name="Delete").click()
        page.locator("#no-groups").wait_for(timeout=LONG)
        assert files(home) == 0
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert complaints == []


def test_who_looks_like_somebody_is_asked_for(browser: Any, home: Home, recognizer: Recognizer) -> None:  # noqa: F811
    kept(home, recognizer, 1, shots=2)
    embedding = recognizer.embed(draw_face(1, 0)[np.newaxis])[0]
    with home.known._make() as gallery:
        gallery.enroll("Ada", [Template(embedding, None, "ada.jpg")], consent="yes")
    with visited(browser, home.page.url) as (page, complaints):
        page.locator("#groups li").get_by_role("button", name="Name").click()
        page.locator("#naming-name").fill("Adah")
        page.locator("#naming-consent").fill("yes")
        page.locator("#naming-do").click()
        page.locator("#naming-error", has_text="looks like Ada (1.00): is it the same person?").wait_for(timeout=LONG)
        complaints[:] = [one for one in complaints if "409" not in one]  # Chromium tells of every refused request
        assert page.locator("#naming-alike button").all_inner_texts() == ["Add to Ada", "Somebody else"]
        shot(page, "looks-like")
        page.locator("#naming-alike button", has_text="Add to Ada").click()
        page.locator("#no-groups").wait_for(timeout=LONG)
    assert complaints == []
    with home.gallery() as gallery:
        assert [(one.name, one.templates) for one in gallery.people()] == [("Ada", 3)]


def test_names_and_templates_are_corrected_on_the_page(browser: Any, home: Home, recognizer: Recognizer) -> None:  # noqa: F811
    def of(person: int, source: str) -> Template:
        return Template(recognizer.embed(draw_face(person, 0)[np.newaxis])[0], None, source)

    with home.known._make() as gallery:
        gallery.enroll("Aad", [of(1, "ada.jpg"), of(2, "somebody else.jpg")], consent="yes")
        gallery.enroll("Ada again", [of(1, "ada2.jpg")], consent="yes")
    with visited(browser, home.page.url, viewport={"width": 390, "height": 900}) as (page, complaints):
        page.get_by_role("button", name="Correct Aad", exact=True).click()
        page.locator("#edit-templates li").nth(1).wait_for(timeout=LONG)
        page.get_by_role("button", name="Remove template 2").click()
        page.locator("#edit-templates li").nth(1).wait_for(state="detached", timeout=LONG)
        page.locator("#edit-name").fill("Ada Lovelace")
        page.locator("#edit-expires").fill("2090-05-01")
        shot(page, "correct-390")
        page.locator("#edit-do").click()
        page.locator("#people b", has_text="Ada Lovelace").wait_for(timeout=LONG)
        page.get_by_role("button", name="Correct Ada again").click()
        page.locator("#edit-into").select_option(label="Ada Lovelace (1)")
        page.locator("#edit-do").click()
        page.locator("#people li").nth(1).wait_for(state="detached", timeout=LONG)
    assert complaints == []
    with home.gallery() as gallery:
        (ada,) = gallery.people()
        assert (ada.name, ada.templates) == ("Ada Lovelace", 2)
        assert ada.expires is not None
        assert [template.source for template in gallery.templates(ada.id)] == ["ada.jpg", "ada2.jpg"]
        assert [one.action for one in gallery.audit()][2:] == ["remove-template", "rename", "expire", "merge"]
