from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from slimcam.deploy.apps.faces import COMMANDS, FacesConfig
from slimcam.deploy.apps.faces_arguments import ARGUMENTS, overrides
from slimcam.deploy.gallery import enrollment
from slimcam.deploy.gallery.crops import encode_crop
from slimcam.deploy.gallery.gallery import Gallery, Person, Template
from slimcam.deploy.inference.bundle import load_bundle
from slimcam.deploy.inference.model import Recognizer
from slimcam.training.data.recognition.synthetic import draw_face
from tests.deploy.camera.sources.test_sources import Stream, serving

ROOT = Path(__file__).resolve().parents[3]
RECOGNIZER = ROOT / "deploy/models/recognizer"
PASSPHRASE = "correct horse"


def composed(*words: str) -> FacesConfig:
    with initialize_config_module("slimcam.conf.device", version_base=None):
        config = OmegaConf.to_object(compose("slimcam_faces", overrides=overrides(words)))
    assert isinstance(config, FacesConfig)
    return config


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def faces(home: Path, *words: str, passphrase: str | None = PASSPHRASE) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "conf"),
    }
    environment.pop("SLIMCAM_PASSPHRASE", None)
    if passphrase is not None:
        environment["SLIMCAM_PASSPHRASE"] = passphrase
    return subprocess.run(
        [sys.executable, "-m", "slimcam.deploy.apps.faces", *words],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def opened(home: Path, model: str | None = None) -> Gallery:
    return Gallery(home / "data/slimcam/gallery.db", model, None, home / "conf/slimcam/gallery.key")


def enrolled(home: Path, name: str, *identities: int, crops: bool = True) -> Person:
    """Somebody as the recognizer sees rendered faces."""
    bundle, recognizer = load_bundle(RECOGNIZER), Recognizer(RECOGNIZER, check=False)
    drawn = [draw_face(identity, 0) for identity in identities]
    taken = [
        Template(recognizer.embed(one[np.newaxis])[0], encode_crop(one) if crops else None, "drawn") for one in drawn
    ]
    with opened(home, bundle.sha256) as gallery:
        return gallery.enroll(name, taken, consent="drawn, nobody had to be asked")


def test_what_is_wrong_is_corrected_from_the_command_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "conf"))

    def said(*words: str) -> str:
        COMMANDS[words[0]](composed(*words))
        return capsys.readouterr().out

    anna, again = enrolled(home, "Ana", 1, 2, crops=False), enrolled(home, "Anna too", 1, crops=False)
    assert said("rename", "Ana", "Anna") == f"Ana is Anna ({anna.id}) now\n"
    merged = f"merged Anna too ({again.id}) into Anna ({anna.id}), who has 3 templates now\n"
    assert said("merge", "Anna too", anna.id) == merged
    assert said("remove-template", "Anna", "2") == f"Anna ({anna.id}) has 2 templates left\n"
    assert said("expire", "Anna", "2090-05-01") == f"Anna ({anna.id}) expires: 2090-05-01\n"
    assert said("expire", "Anna", "never") == f"Anna ({anna.id}) expires: never\n"
    with opened(home) as gallery:
        actions = [one.action for one in gallery.audit()]
    assert actions[2:] == ["rename", "merge", "remove-template", "expire", "expire"]
    for words, reason in (
        (("rename", "Bob", "Rob"), "nobody in the gallery has the name 'Bob'"),
        (("merge", "Anna"), "slimcam-faces merge lacks INTO: slimcam-faces merge NAME INTO"),
        (("remove-template", "Anna", "two"), "template is a number"),
        (("remove-template", "Anna", "7"), "has templates 1 to 2"),
        (("expire", "Anna", "soon"), "a day such as"),
    ):
        with pytest.raises(ValueError, match=reason):
            said(*words)


# Words


@settings(max_examples=40, deadline=None)
@given(st.text(), st.text(), st.lists(st.text(), max_size=2))
def test_every_text_reaches_the_configuration_as_it_is(name: str, note: str, pictures: list[str]) -> None:
    pictures = [f"./{picture}" for picture in pictures]
    config = composed("enroll", name, *pictures, f"consent={note}")
    assert (config.command, config.name, config.pictures, config.consent) == ("enroll", name, pictures, note)


@pytest.mark.parametrize(
    "name",
    [
        "-x",
        "--help",
        "a=b",
        "source=0",
        "a, b",
        "O'Hara",
        'say "x"',
        "${oc.env:HOME}",
        "\\${x}",
        "\\",
        "a\\'",
        "$HOME",
        "null",
        "[1,2]",
        "{a: b}",
        " padded ",
        "",
        "true",
        "1e3",
        "山田 太郎",
        "a#b",
        "%",
        "~x",
        "+x=1",
        "@",
        "\\\\${a}",
        "${",
        "}",
    ],
)
def test_names_are_not_read_as_anything_else(name: str) -> None:
    for command in ("enroll", "forget"):
        assert composed(command, name).name == name
    assert composed("enroll", "x", f"consent={name}", f"./{name}").consent == name


def test_words_become_options_and_pictures() -> None:
    config = composed(
        "enroll", "Anna", "a.jpg", "keep_crops=true", "b c.jpg", "far=0.01", "source=0", "capture.rotate=90"
    )
    assert (config.pictures, config.keep_crops, config.far) == (["a.jpg", "b c.jpg"], True, 0.01)
    assert (config.source, config.capture.rotate) == ("0", 90)
    assert composed("export", "my file=1").file == "my file=1"
    assert overrides(["--help"]) == ["--help"]
    assert overrides([]) == []
    assert overrides(["list", "--cfg=job"]) == ["command=list", "--cfg=job"]


def test_every_command_is_done_by_something() -> None:
    assert COMMANDS.keys() == ARGUMENTS.keys()


# Commands


def test_a_gallery_is_kept_from_the_command_line(home: Path) -> None:
    anna, bob = enrolled(home, "Anna, A.", 1), enrolled(home, "O'Hara =x", 2, 3)
    listed = faces(home, "list")
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert lines[0].split() == ["id", "name", "templates", "enrolled", "expires", "consent"]
    assert [line.split()[0] for line in lines[1:]] == [anna.id, bob.id]
    assert "Anna, A." in lines[1]
    assert faces(home, "export", "out.slimcam").stdout == "exported 2 people to out.slimcam\n"
    assert faces(home, "forget", "O'Hara =x").stdout == f"forgot {bob.id}\n"
    assert faces(home, "forget", anna.id).stdout == f"forgot {anna.id}\n"
    imported = faces(home, "import", "out.slimcam")
    assert imported.stdout == f"imported 2 people: Anna, A. ({anna.id}), O'Hara =x ({bob.id})\n", imported.stderr
    audit = faces(home, "audit").stdout
    assert [line.split()[3] for line in audit.splitlines()] == ["enrol"] * 2 + ["export"] * 2 + ["forget"] * 2 + [
        "import"
    ] * 2
    with opened(home) as gallery:
        assert gallery.people() == [anna, bob]
    assert sorted(path.name for path in home.iterdir()) == ["conf", "data", "out.slimcam"]


def test_a_change_of_the_recognizer_is_mended_by_re_enrolling(home: Path) -> None:
    bundle = load_bundle(RECOGNIZER)
    crop = encode_crop(draw_face(1, 0))
    with opened(home, "b" * 64) as gallery:
        gallery.enroll("Anna", [Template(np.eye(4, dtype=np.float32)[0], crop, "x")], consent="yes")
    refused = faces(home, "check")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "slimcam-faces re-enrol" in refused.stderr.splitlines()[-1]
    done = faces(home, "re-enroll")
    assert done.stdout == "re-enrolled 1 people, 1 templates\n", done.stderr
    with opened(home, bundle.sha256) as gallery:
        expected = Recognizer(RECOGNIZER, check=False).embed(draw_face(1, 0)[np.newaxis])
        np.testing.assert_array_equal(gallery.snapshot().embeddings, expected)


def test_check_finds_the_same_person_twice(home: Path) -> None:
    enrolled(home, "Anna", 1)
    well = faces(home, "check")
    assert (well.returncode, well.stdout) == (0, "nothing found\n"), well.stderr
    enrolled(home, "Anne", 1)
    found = faces(home, "check")
    assert found.returncode == 1
    assert "look alike, cosine 1.00: the same person twice?" in found.stdout
    assert found.stderr.splitlines()[-1] == "slimcam-faces: 1 finding"


def test_pictures_are_enrolled_from_the_command_line(home: Path) -> None:
    import cv2

    folder = home / "pictures of Anna"
    folder.mkdir()
    for i in range(3):
        frame = np.full((480, 640, 3), 120, np.uint8)
        frame[100:324, 200:424] = cv2.resize(draw_face(1, i), (224, 224))
        cv2.imwrite(str(folder / f"{i}.jpg"), frame[..., ::-1])
    (folder / "bad.jpg").write_bytes(b"no picture")
    done = faces(home, "enroll", "Anna =1", "pictures of Anna", "consent=drawn, by us", "expires=2090-01-01")
    assert done.returncode == 0, done.stderr
    assert "left out: bad.jpg" in done.stdout.replace("pictures of Anna/", "")
    assert done.stdout.splitlines()[-1].startswith("enrolled Anna =1 (")
    again = faces(home, "enroll", "Anna =1", "pictures of Anna/0.jpg")
    assert again.returncode == 1
    assert "person=ID adds pictures, person=new enrolls another one" in again.stderr.splitlines()[-1]
    with opened(home) as gallery:
        (anna,) = gallery.people()
    more = faces(home, "enroll", "Anna =1", "pictures of Anna/0.jpg", f"person={anna.id}")
    assert more.returncode == 0, more.stderr
    with opened(home) as gallery:
        (after,) = gallery.people()
    assert (after.templates, after.consent) == (anna.templates + 1, "drawn, by us")
    assert time.strftime("%Y-%m-%d", time.localtime(after.expires)) == "2090-01-01"


def test_where_nobody_answers_enrolling_ends_in_one_line_after_a_bounded_wait(home: Path) -> None:
    begin = time.monotonic()
    done = faces(home, "enroll", "Anna", "source=http://127.0.0.1:9/live", "capture.timeout=0.5")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("slimcam-faces:")]
    assert len(lines) == 1, done.stderr
    assert "no picture came within 1 s; is it on, and the address right?" in lines[0]
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begin < 60


def test_a_stream_that_falls_silent_ends_enrolling_with_what_was_seen(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    frame = np.full((480, 640, 3), 120, np.uint8)
    frame[100:324, 200:424] = cv2.resize(draw_face(1, 0), (224, 224))
    picture = cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()
    # Its frames are over long before, on a busy machine too.
    monkeypatch.setattr(enrollment, "VIEWS_SECONDS", 5.0)

    class Stopping(Stream):
        requests = 0

        def do_GET(self) -> None:  # noqa: N802
            Stopping.requests += 1
            if Stopping.requests > 2:  # what kind of address it is, and the stream itself
                return self.send_error(404)
            self.times = 3
            return super().do_GET()

    with serving(partial(Stopping, picture)) as port:
        files = f"gallery={home / 'data/slimcam/gallery.db'}", f"key={home / 'conf/slimcam/gallery.key'}"
        config = composed("enroll", "Anna", f"source=http://127.0.0.1:{port}/video", *files)
        enrolling = threading.Thread(target=COMMANDS["enroll"], args=(config,), daemon=True)
        enrolling.start()
        enrolling.join(60)
        assert not enrolling.is_alive(), "it waits for ever"
    with opened(home) as gallery:
        (anna,) = gallery.people()
    assert anna.name == "Anna"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "what is to be done? slimcam-faces enroll, list, forget"),
        (("frob",), "'frob' is not a command; known are enroll, list"),
        (("enroll",), "slimcam-faces enroll lacks NAME: slimcam-faces enroll NAME"),
        (("enroll", "Anna"), "give pictures or folders to enroll from, or source=0 for a camera"),
        (("enroll", "Anna", "a.jpg", "source=0"), "give pictures or folders to enroll from, or source=0 for a camera"),
        (("enroll", "a\nb", "a.jpg"), "a name must not have control characters; got '\\n' in it"),
        (("enroll", "Anna", "a.jpg", "expires=tomorrow"), "expires is a day such as 2027-01-01; got 'tomorrow'"),
        (("enroll", "Anna", "a.jpg", "consnet=x"), "has no key 'consnet'; did you mean 'consent'?"),
        (
            ("enroll", "Anna", "a.jpg", "far=0.5"),
            "has no threshold for a false accept rate of 0.5, only for far=0.1, 0.01",
        ),
        (("enroll", "???", "a.jpg"), "'???' stands for what is missing and cannot be a value"),
        (("list", "Anna"), "slimcam-faces list: 'Anna' is one word too many"),
        (("list",), "there is no gallery; slimcam-faces enroll NAME PICTURE makes one"),
        (("forget", "Anna"), "there is no gallery"),
        (("import", "gone"), "No such file or directory: 'gone'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(words: tuple[str, ...], line: str, home: Path) -> None:
    result = faces(home, *words)
    assert (result.returncode, result.stdout) == (1, "")
    assert line in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    if words[:1] != ("import",):
        assert not [path for path in home.rglob("*") if path.is_file() and path.suffix == ".db"]


def test_names_that_are_several_peoples_are_refused_with_their_ids(home: Path) -> None:
    people = [enrolled(home, "Anna", i) for i in (1, 2)]
    refused = faces(home, "forget", "Anna")
    assert refused.returncode == 1
    assert all(one.id in refused.stderr for one in people)
    assert "nobody in the gallery has the name 'Bob'" in faces(home, "forget", "Bob").stderr


def test_an_archive_needs_a_passphrase_that_is_not_on_the_command_line(home: Path) -> None:
    enrolled(home, "Anna", 1)
    refused = faces(home, "export", "out", passphrase=None)
    assert "which passphrase? put it into the environment variable SLIMCAM_PASSPHRASE" in refused.stderr
    assert "8 characters" in faces(home, "export", "out", passphrase="short").stderr
    assert not (home / "out").exists()


def test_help_shows_how_to_call_it(home: Path) -> None:
    result = faces(home, "--help")
    for command in COMMANDS:
        assert f"slimcam-faces {command}" in result.stdout
    assert "keep_crops: false" in result.stdout


def test_the_former_words_of_commands_work_with_a_notice(caplog: pytest.LogCaptureFixture) -> None:
    assert overrides(["enrol", "Ada", "a.jpg"]) == overrides(["enroll", "Ada", "a.jpg"])
    assert overrides(["re-enrol"]) == ["command=re-enroll"]
    assert "slimcam-faces enrol is now slimcam-faces enroll" in caplog.text
