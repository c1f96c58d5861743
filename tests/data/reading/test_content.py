"""Bytes of structure files: packed, in any encoding, ordinary files only."""

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pytest

from deeph_zero.data.reading import content
from deeph_zero.data.reading.content import (
    WholeFileError,
    content_of,
    head_of,
    inner_suffix,
    naming,
    text_of,
)
from deeph_zero.data.structures import read_structures
from deeph_zero.errors import InputError

from .records import PDB, XYZ, save


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    ("name", "text"), [("a.xyz", XYZ + "\n" + XYZ), ("a.pdb", PDB + "END\n" + PDB)]
)
def test_packed_files_are_read_like_plain_ones(tmp_path, pack, name, text):
    suffix = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]
    for packed in (f"{name}.{suffix}", name):
        molecules, bad = read_structures([save(tmp_path, packed, pack(text.encode()))])
        assert (len(molecules), bad) == (2, [])


def test_a_packed_file_unpacks_within_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "MAX_UNPACKED", 2**20)
    path = save(tmp_path, "a.xyz.gz", gzip.compress(bytes(2**22)))
    assert "at most 1 MB" in str(read_structures([path])[1][0])
    path.write_bytes(gzip.compress(XYZ.encode())[:30])
    assert "cannot be unpacked" in str(read_structures([path])[1][0])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_titles_in_any_encoding(tmp_path, encoding):
    path = save(tmp_path, "a.xyz", XYZ.replace("good", "r = 0.96 Å").encode(encoding))
    molecules, bad = read_structures([path])
    assert (len(molecules), bad) == (1, [])


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.xyz")
    (tmp_path / "loop.xyz").symlink_to(tmp_path / "loop.xyz")
    (tmp_path / "zero.xyz").symlink_to("/dev/zero")
    words = ("named pipe", "symbolic links", "device")
    for name, word in zip(("pipe.xyz", "loop.xyz", "zero.xyz"), words, strict=True):
        molecules, bad = read_structures([tmp_path / name])
        assert molecules == []
        assert word in str(bad[0])


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.xyz", ".xyz"), ("a.XYZ.GZ", ".xyz"), ("a.tar.bz2", ".tar"), ("a", ""), ("a.gz", ""),
        ("b.c/a.pdb.xz.gz", ".pdb"), (".hidden", ""),
    ],
)  # fmt: skip
def test_endings_without_those_of_packing(name, suffix):
    assert inner_suffix(Path(name)) == suffix


def test_the_head_and_the_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(1, 101)))
    assert head_of(path) == bytes(range(1, 65))
    assert content_of(path) == bytes(range(1, 101))
    path.write_bytes(gzip.compress(b"text"))
    assert head_of(path)[:2] == b"\x1f\x8b"
    assert content_of(path) == b"text"


def test_a_text_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "MAX_TEXT", 2**20)
    path = tmp_path / "a"
    path.write_bytes(bytes(2**20))
    assert len(content_of(path)) == 2**20
    path.write_bytes(bytes(2**20 + 1))
    with pytest.raises(WholeFileError, match="expected at most 1 MB of text, got more; split it"):
        content_of(path)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (b"", ""),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
        ("\ufeffé".encode(), "é"),
        ("é".encode("utf-16"), "é"),
        ("é".encode("latin-1"), "é"),
        (b"a\x1bb\x1a", "a\x1bb\x1a"),
    ],
)
def test_text_of_bytes(given, text):
    assert text_of(given) == text


@pytest.mark.parametrize("given", [b"a\0b", b"\xff\x01", b"\xff\xfe\xd8", b"\xe9\x7f"])
def test_bytes_that_are_no_text(given):
    with pytest.raises(WholeFileError, match="expected text, the content is binary"):
        text_of(given)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("expected a, got b"), "f: expected a, got b"),
        (InputError("f: expected a, got b"), "f: expected a, got b"),
        (OSError(13, "Permission denied"), "f: cannot be read (Permission denied); check the path"),
        (OSError("odd"), "f: cannot be read (odd); check the path"),
    ],
)
def test_errors_begin_with_the_file_once(error, line):
    with pytest.raises(InputError) as caught, naming(Path("f")):
        raise error
    assert str(caught.value) == line


@pytest.mark.parametrize("head", [b"SQLite format 3\0", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"])
def test_a_packed_database_is_to_be_unpacked(tmp_path, head):
    path = save(tmp_path, "a.db.gz", gzip.compress(head + bytes(600)))
    (bad,) = read_structures([path])[1]
    assert bad.frame is None
    assert bad.error.endswith("; unpack it")
