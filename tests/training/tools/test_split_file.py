"""A file in pieces, and whole again; what is missing or damaged is named."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from slimcam.training.tools.split_file import INDEX, MIB, join, main, split


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.keras"
    path.write_bytes(np.random.default_rng(0).bytes(2500))
    return path


@pytest.mark.parametrize(("size", "count"), [(1000, 3), (1250, 2), (2500, 1), (10_000, 1)])
def test_pieces_are_below_the_limit_and_join_to_the_same_file(file, tmp_path, size, count):
    pieces = split(file, tmp_path / "pieces", size)
    assert len(pieces) == count
    assert all(piece.stat().st_size <= size for piece in pieces)
    join(tmp_path / "pieces", tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == file.read_bytes()


def test_a_piece_may_be_longer_than_what_is_copied_at_a_time(tmp_path):
    (tmp_path / "big").write_bytes(np.random.default_rng(0).bytes(3 * MIB + 5))
    assert len(split(tmp_path / "big", tmp_path / "pieces", 2 * MIB)) == 2
    join(tmp_path / "pieces", tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "big").read_bytes()


def test_an_empty_file_is_one_empty_piece(tmp_path):
    (tmp_path / "empty").touch()
    assert len(split(tmp_path / "empty", tmp_path / "pieces")) == 1
    join(tmp_path / "pieces", tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == b""


def test_a_missing_piece_is_named_and_nothing_is_written(file, tmp_path):
    pieces = split(file, tmp_path / "pieces", 1000)
    pieces[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks weights\.keras\.001"):
        join(tmp_path / "pieces", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"\0" + b[1:]])
def test_a_damaged_piece_is_named_and_an_older_file_stays(file, tmp_path, damage):
    pieces = split(file, tmp_path / "pieces", 1000)
    pieces[2].write_bytes(damage(pieces[2].read_bytes()))
    (tmp_path / "joined").write_text("older")
    with pytest.raises(ValueError, match=r"weights\.keras\.002 was damaged"):
        join(tmp_path / "pieces", tmp_path / "joined")
    assert (tmp_path / "joined").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["joined", "pieces", "weights.keras"]


def test_pieces_in_the_wrong_order_are_refused(file, tmp_path):
    split(file, tmp_path / "pieces", 1000)
    index = json.loads((tmp_path / "pieces" / INDEX).read_text())
    index["pieces"].reverse()
    (tmp_path / "pieces" / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="does not belong to these pieces"):
        join(tmp_path / "pieces", tmp_path / "joined")


@pytest.mark.parametrize(
    "index", ["no JSON", "[]", '{"sha256": "0", "pieces": [{"name": "../x", "bytes": 1, "sha256": "0"}]}']
)
def test_an_index_that_is_none_is_refused(tmp_path, index):
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(ValueError, match="not an index of pieces"):
        join(tmp_path, tmp_path / "joined")


def test_splitting_refuses_what_cannot_be(file, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        split(tmp_path / "none", tmp_path / "pieces")
    with pytest.raises(ValueError, match="give a size above 0"):
        split(file, tmp_path / "pieces", 0)
    split(file, tmp_path / "pieces")
    with pytest.raises(FileExistsError, match="is not empty"):
        split(file, tmp_path / "pieces")


def test_the_command_line_splits_joins_and_says_what_is_wrong_in_one_line(file, tmp_path, capsys):
    main(["split", str(file), str(tmp_path / "pieces"), "--mib", "0.001"])
    main(["join", str(tmp_path / "pieces"), str(tmp_path / "joined")])
    assert (tmp_path / "joined").read_bytes() == file.read_bytes()
    assert capsys.readouterr().out.startswith("3 pieces in ")
    command = [sys.executable, "-m", "slimcam.training.tools.split_file", "join", str(tmp_path / "nowhere"), "x"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("pieces: ")
    assert failed.stderr.count("\n") == 1
