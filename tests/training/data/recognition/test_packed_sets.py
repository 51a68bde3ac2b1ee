"""InsightFace's records and WebDataset's shards: read back as written, and what is said of damaged ones."""

from __future__ import annotations

import shutil
import struct
import tarfile

import cv2
import numpy as np
import pytest

from slimcam.training.data import sources
from slimcam.training.data.recognition import folders, verification_pack
from slimcam.training.data.recognition.encoded import encoded
from slimcam.training.data.recognition.folders import FoldersConfig
from slimcam.training.data.recognition.packed_sets import RecordsConfig, ShardsConfig
from slimcam.training.data.recognition.record_file import MAGIC, open_records
from slimcam.training.data.recognition.shards import open_shards
from slimcam.training.tools.convert_faces import convert, main, open_faces

OPEN = {"records": open_records, "shards": open_shards}


def content(faces, index):
    return encoded(faces.images, index).tobytes()


@pytest.fixture(params=list(OPEN))
def form(request):
    return request.param


@pytest.fixture
def packed(people, tmp_path, form):
    convert(people, tmp_path / form, form, size=13)
    return tmp_path / form


def test_a_set_is_read_back_equal(people, packed, form, tmp_path):
    expected, found = open_faces(people), OPEN[form](packed)
    assert found.identities == expected.identities
    np.testing.assert_array_equal(found.labels, expected.labels)
    for index in range(len(expected)):
        assert content(found, index) == content(expected, index)
        np.testing.assert_array_equal(found.images[index], expected.images[index])
    convert(packed, tmp_path / "back", "folders")
    back = open_faces(tmp_path / "back")
    assert back.identities == expected.identities
    assert [content(back, index) for index in range(30)] == [content(expected, index) for index in range(30)]


def test_a_set_is_split_as_its_folders_are(people, packed, form, tmp_path):
    config = {"records": RecordsConfig, "shards": ShardsConfig}[form](
        root=str(packed), test_fraction=0.3, test_pairs=20
    )
    found = sources.load(config, tmp_path)
    expected = folders.load(FoldersConfig(root=str(people), test_fraction=0.3, test_pairs=20))
    assert found.train.identities == expected.train.identities
    np.testing.assert_array_equal(found.pairs.left, expected.pairs.left)
    np.testing.assert_array_equal(found.test.images[3], expected.test.images[3])
    before = sources.fingerprint(config)
    config.seed = 1
    assert sources.fingerprint(config) != before


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_people_to_train_on_and_to_verify_by_are_refused(count, people, form, tmp_path):
    for person in range(count, 10):
        shutil.rmtree(people / f"person {person}")
    convert(people, tmp_path / "set", form)
    config = {"records": RecordsConfig, "shards": ShardsConfig}[form](root=str(tmp_path / "set"))
    with pytest.raises(ValueError, match=rf"set: {count} people .*at least 4 are needed.*; or give data\.packs"):
        sources.load(config, tmp_path)


def test_an_empty_shard_is_passed_over(people, tmp_path):
    convert(people, tmp_path / "set", "shards")
    (tmp_path / "set/000001.tar").touch()
    config = ShardsConfig(root=str(tmp_path / "set"))
    assert len(open_shards(tmp_path / "set")) == 30
    assert sources.fingerprint(config)


def test_a_list_of_another_form_is_one_clear_error(records):
    (records / "train.lst").write_text("1\t/faces/person/1.jpg\t0\n")
    with pytest.raises(ValueError, match=r"train\.lst: expected lines of a key, a label and a path"):
        open_records(records)


def test_packs_are_what_records_are_evaluated_on(people, tmp_path):
    convert(people, tmp_path / "set", "records")
    pixels = [path.read_bytes() for path in sorted(people.glob("*/*.png"))]
    for name in ("lfw.bin", "agedb_30.bin"):
        verification_pack.write(tmp_path / "set" / name, pixels, np.arange(15) % 2 < 1)
    data = sources.load(RecordsConfig(root=str(tmp_path / "set"), packs=["lfw.bin", "agedb_30.bin"]), tmp_path)
    assert len(data.train.identities) == 10
    assert len(data.pairs) == 15
    assert [held.source for held in data.held_out] == ["agedb_30"]


@pytest.fixture
def records(people, tmp_path):
    convert(people, tmp_path / "set", "records")
    return tmp_path / "set"


def test_the_files_are_those_of_mxnet(records):
    rec = (records / "train.rec").read_bytes()
    assert (records / "property").read_text() == "10,112,112\n"
    lines = [line.split("\t") for line in (records / "train.idx").read_text().splitlines()]
    assert [int(key) for key, _ in lines] == list(range(1 + 30 + 10))
    magic, length, flag, label, key, _, first, end = struct.unpack_from("<IIIfQQff", rec)
    assert (magic, length, flag, label, key, first, end) == (MAGIC, 32, 2, 0, 0, 31, 41)
    magic, length, flag, label, key = struct.unpack_from("<IIIfQ", rec, int(lines[5][1]))
    assert (magic, flag, label, key) == (MAGIC, 0, 1, 5)
    assert rec[int(lines[5][1]) + 32 :][:4] == b"\x89PNG"
    # The second person's images have the keys 4 to 6.
    assert struct.unpack_from("<ff", rec, int(lines[32][1]) + 32) == (4, 7)
    assert all(int(place) % 4 == 0 for _, place in lines)


def test_a_file_without_people_has_the_labels_of_its_images(tmp_path, write_image):
    pixels = cv2.imencode(".png", write_image(tmp_path / "x.png"))[1].tobytes()
    rec, idx = b"", ""
    for key, labels in enumerate([(5.0,), (9.0, 1.0), (5.0,)]):
        several = labels if len(labels) > 1 else ()
        data = struct.pack("<IfQQ", len(several), labels[0], key, 0) + np.array(several, "<f4").tobytes() + pixels
        idx += f"{key}\t{len(rec)}\n"
        rec += struct.pack("<II", MAGIC, len(data)) + data + bytes(-len(data) % 4)
    (tmp_path / "train.rec").write_bytes(rec)
    # Lines in any order: the keys say which is which.
    (tmp_path / "train.idx").write_text("\n".join(reversed(idx.splitlines())) + "\n")
    found = open_records(tmp_path)
    assert found.identities == ("0000005", "0000009")
    assert found.labels.tolist() == [0, 1, 0]
    assert content(found, 1) == pixels


def test_a_truncated_file_is_one_clear_error(records):
    path = records / "train.rec"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 // 4 * 4])
    with pytest.raises(ValueError, match=r"train.rec: .*truncated"):
        open_records(records)
    path.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match="no whole number of records"):
        open_records(records)


def test_a_file_with_another_magic_number_is_one_clear_error(records):
    path = records / "train.rec"
    whole = path.read_bytes()
    path.write_bytes(b"RIFF" + whole[4:])
    with pytest.raises(ValueError, match=r"train.rec: it begins with 0x46464952, a RecordIO file with 0xced7230a"):
        open_records(records)
    place = int((records / "train.idx").read_text().splitlines()[7].split("\t")[1])
    path.write_bytes(whole[:place] + bytes(4) + whole[place + 4 :])
    with pytest.raises(ValueError, match=f"no record begins at byte {place:,}"):
        open_records(records)


def test_a_shuffled_or_cut_index_is_one_clear_error(records):
    path = records / "train.idx"
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    places = [place for _, place in lines]
    mixed = [places[0], *np.random.default_rng(0).permutation(places[1:31]), *places[31:]]
    path.write_text("".join(f"{key}\t{place}\n" for (key, _), place in zip(lines, mixed, strict=True)))
    with pytest.raises(ValueError, match="its index is another file's, or shuffled"):
        open_records(records)
    path.write_text("".join(f"{key}\t{place}\n" for key, place in lines[:35]))
    with pytest.raises(ValueError, match="its index lacks records of people"):
        open_records(records)
    path.write_text("0\t0\n1")
    with pytest.raises(ValueError, match="not a whole index"):
        open_records(records)
    path.write_text("no numbers\n")
    with pytest.raises(ValueError, match=r"train.idx: not a"):
        open_records(records)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.idx"):
        open_records(records)


def test_shards_of_other_tools_are_walked_and_named_by_their_labels(tmp_path, write_image):
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for number in range(4):
            write_image(tmp_path / "x.jpg", seed=number)
            (tmp_path / "x.cls").write_text(str(number // 2))
            for suffix in ("jpg", "cls"):
                shard.add(tmp_path / f"x.{suffix}", f"{number:04d}.{suffix}")
    found = open_shards(tmp_path)
    assert found.identities == ("0", "1")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert content(found, 3) == (tmp_path / "x.jpg").read_bytes()


def test_damaged_shards_are_one_clear_error(people, tmp_path, write_image):
    convert(people, tmp_path / "set", "shards", size=15)
    first, second = (tmp_path / "set" / f"{number:06d}" for number in range(2))
    index, whole = first.with_suffix(".idx").read_text(), first.with_suffix(".tar").read_bytes()
    first.with_suffix(".idx").write_text(second.with_suffix(".idx").read_text().replace(" 512 ", " 1024 "))
    with pytest.raises(ValueError, match=r"000000.tar: .*index of another file"):
        open_shards(tmp_path / "set")
    first.with_suffix(".idx").write_text(index)
    first.with_suffix(".tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"000000.tar is truncated"):
        open_shards(tmp_path / "set")
    first.with_suffix(".idx").write_text("\n".join(index.splitlines()[:-3]))
    with pytest.raises(ValueError, match="not a whole index"):
        open_shards(tmp_path / "set")
    first.with_suffix(".idx").unlink()
    with pytest.raises(ValueError, match="not a whole tar file"):
        open_shards(tmp_path / "set")
    with pytest.raises(FileNotFoundError, match=r"there is no .tar file"):
        open_shards(people)
    (tmp_path / "nameless").mkdir()
    with tarfile.open(tmp_path / "nameless/a.tar", "w") as shard:
        write_image(tmp_path / "x.jpg")
        shard.add(tmp_path / "x.jpg", "0001.jpg")
    with pytest.raises(ValueError, match="says who it shows"):
        open_shards(tmp_path / "nameless")


def test_a_pack_of_a_list_goes_back_to_a_list(small_lfw, tmp_path):
    source = small_lfw / "lfw112/pairsDevTest.txt"
    main([str(source), str(tmp_path / "out/dev.bin")])
    pack = verification_pack.read(tmp_path / "out/dev.bin")
    assert pack.pairs.same.tolist() == [True, False, True, False]
    convert(tmp_path / "out/dev.bin", tmp_path / "back")
    convert(tmp_path / "back/pairs.txt", tmp_path / "out/again.bin")
    assert (tmp_path / "out/again.bin").read_bytes() == (tmp_path / "out/dev.bin").read_bytes()


def test_what_is_missing_is_one_line(people, tmp_path):
    with pytest.raises(SystemExit, match="to which format"):
        main([str(people), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"no train.rec, no .tar file"):
        main([str(people / "person 0"), str(tmp_path / "out"), "--to", "shards"])
    with pytest.raises(SystemExit, match="is not empty"):
        main([str(people), str(people), "--to", "folders"])
