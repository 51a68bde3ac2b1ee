from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from slimcam.deploy.inference.bundle import DETECTOR, load_bundle
from slimcam.deploy.ota.archive import FILES, pack, unpack


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for member, data in members:
            member.size = len(data)
            file.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return buffer.getvalue()


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


WHOLE = [(name, b"x") for name in FILES]


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    for name, content in unpack(pack(DETECTOR)).items():
        (tmp_path / name).write_bytes(content)
    assert load_bundle(tmp_path).sha256 == load_bundle(DETECTOR).sha256


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in reversed(FILES):
        (copy / name).write_bytes((DETECTOR / name).read_bytes())
        (copy / name).chmod(0o600)
    (copy / "notes.txt").write_text("not of the bundle")
    assert pack(copy) == pack(DETECTOR)


@pytest.mark.parametrize(
    "member",
    [
        named("../state.json"),
        named("/etc/passwd"),
        named("./model.tflite"),
        named("folder/model.tflite"),
        named("MODEL.TFLITE"),
        named("model.tflite", tarfile.SYMTYPE, "/etc/passwd"),
        named("model.tflite", tarfile.LNKTYPE, "bundle.json"),
        named("model.tflite", tarfile.DIRTYPE),
        named("model.tflite", tarfile.FIFOTYPE),
        named("model.tflite", tarfile.CHRTYPE),
        named("notes.txt"),
        named("model.tflite\n"),
    ],
    ids=lambda member: f"{member.name!r}-{member.type!r}",
)
def test_anything_but_the_files_of_a_bundle_is_refused(member: tarfile.TarInfo) -> None:
    others = [(named(name), data) for name, data in WHOLE if name != member.name]
    with pytest.raises(ValueError, match="is no file of a bundle"):
        unpack(archive(*others, (member, b"x" if member.isreg() else b"")))


def test_a_file_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="there twice"):
        unpack(archive(*[(named(name), data) for name, data in [*WHOLE, WHOLE[1]]]))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ValueError, match=r"lacks model\.tflite"):
        unpack(archive(*[(named(name), data) for name, data in WHOLE if name != "model.tflite"]))


def test_what_is_no_archive_is_refused() -> None:
    whole = archive(*[(named(name), data * 3000) for name, data in WHOLE])
    for content in (b"", b"x" * 2000, whole[:700], whole[:3000]):
        with pytest.raises(ValueError, match=r"archive|truncated"):
            unpack(content)


def test_a_compressed_archive_is_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, data in WHOLE:
            member = named(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    with pytest.raises(ValueError, match="not an archive"):
        unpack(buffer.getvalue())
