"""Text, JSON and tables on disk: whole or not at all, and never through a link."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeph_zero.errors import (
    ComputationError,
    InputError,
    NoSpaceError,
    words_of_the_command_line,
)
from deeph_zero.host import files

FULL = r"No space left on device.*free some space"


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def raiser(error: BaseException):
    def fail(*_args, **_kwargs):
        raise error

    return fail


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_text", raiser(full))
    with pytest.raises(ComputationError, match=FULL):
        files.write_json(tmp_path / "summary.json", {"a": 1})
    assert names(tmp_path) == []


def test_temporary_names_cannot_be_foreseen(tmp_path):
    with files.atomic_path(tmp_path / "a") as one, files.atomic_path(tmp_path / "a") as other:
        assert one != other
        assert one.read_bytes() == b""


def test_a_long_name_is_written_as_a_short_one_is(tmp_path):
    for name in ("a" * 255, "å" * 127):
        files.write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
    assert len(names(tmp_path)) == 2


def test_leavings_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), files.atomic_path(tmp_path / "a.h5") as left:
        kept = left.read_bytes()
        raise KeyboardInterrupt
    left.write_bytes(kept)
    others = ["a.h5", ".a.h5.tmp", ".b.a.h5.17-0123abcd.tmp", ".a.h5.17-0123abcd.tmp.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    files.remove_leavings(tmp_path / "a.h5")
    assert names(tmp_path) == sorted(others)
    files.remove_leavings(tmp_path / "gone" / "a.h5")


def killed(path):
    """A temporary file as a killed process of this machine left it."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as ended:
        pass
    name = files.temporary_beside(path).name
    left = path.with_name(name.replace(f".{os.getpid()}-", f".{ended.pid}-"))
    left.write_text("half")
    return left


def test_what_killed_processes_left_is_removed_and_what_living_ones_write_stays(tmp_path):
    path = tmp_path / "a.h5"
    left = killed(path)
    folder = killed(path)
    folder.unlink()
    (folder / "0000").mkdir(parents=True)
    (folder / "0000" / "info.json").write_text("half")
    other = f"{int(left.name[-16:-12], 16) ^ 1:04x}"  # a machine that shares the disk
    elsewhere = left.with_name(f"{left.name[:-16]}{other}{left.name[-12:]}")
    others = [files.temporary_beside(path), elsewhere, killed(tmp_path / "b.h5"), path]
    for one in others:
        one.write_text("mine")
    files.remove_abandoned(path)
    assert names(tmp_path) == sorted(one.name for one in others)
    files.remove_abandoned(tmp_path / "gone" / "a.h5")


def test_json_is_standard_json(tmp_path):
    data = {
        "nan": float("nan"),
        "array": np.array([1.0, np.inf]),
        "int": np.int64(3),
        "bool": np.bool_(True),
        "path": Path("a"),
        "tuple": (1, None),
    }
    files.write_json(tmp_path / "a.json", data)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "nan": None, "array": [1.0, None], "int": 3, "bool": True, "path": "a", "tuple": [1, None],
    }  # fmt: skip


def test_failing_json_keeps_the_old_one(tmp_path):
    files.write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == [1]
    assert names(tmp_path) == ["a.json"]


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    pipe = tmp_path / "p.xyz"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        with pytest.raises(InputError, match="expected a file, this is a named pipe; copy"):
            files.regular_file(path)
    with pytest.raises(InputError, match="this is a device"):
        files.regular_file("/dev/zero")
    for path in (tmp_path, tmp_path / "none", __file__, "a\0b"):
        files.regular_file(path)


def test_a_table_is_whole_and_says_what_a_row_lacks(tmp_path):
    files.write_csv(tmp_path / "a.csv", ["x", "y"], [{"x": 1, "z": 3}, {"y": 2}])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["x,y", "1,", ",2"]


def test_a_table_grows_by_a_line(tmp_path):
    path = tmp_path / "a.csv"
    files.write_csv(path, ["x", "y"], [{"x": 1, "y": 'a "b", c'}])
    files.append_csv(path, ["x", "y"], {"y": 2.5, "z": 3})
    assert path.read_bytes() == b'x,y\r\n1,"a ""b"", c"\r\n,2.5\r\n'
    with pytest.raises(ComputationError, match=r"cannot write .*no/a\.csv \(No such file"):
        files.append_csv(tmp_path / "no" / "a.csv", ["x"], {"x": 1})


def test_names_that_belong_together():
    path = Path("a/b.v2.hdf5")
    assert files.json_beside(path) == Path("a/b.v2.json")
    assert files.journal_beside(path) == Path("a/b.v2.hdf5.part")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(error), files.atomic_path(path) as temporary:
        fail(temporary)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_file_takes_the_place_of_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "a").symlink_to("mine")
    files.write_text(tmp_path / "a", "ä")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa4"
    assert not (tmp_path / "a").is_symlink()


def test_a_lock_keeps_what_is_in_it(tmp_path):
    path = tmp_path / "lock"
    for content in (b"", b"before"):
        path.write_bytes(content)
        with os.fdopen(files.open_own(path), "r+b") as stream:
            assert stream.read() == content
    path.unlink()
    os.close(files.open_own(path))
    assert path.exists()
    with pytest.raises(FileNotFoundError):
        files.open_own(tmp_path / "no" / "lock")


@pytest.mark.parametrize(
    ("number", "words", "kind"),
    [
        (errno.ENOSPC, "No space left on device); free some space and run it again", NoSpaceError),
        (errno.EDQUOT, "Disk quota exceeded); free some space and run it again", NoSpaceError),
        (errno.EFBIG, "File too large); free some space and run it again", NoSpaceError),
        (errno.EACCES, "Permission denied); check the folder and run it again", ComputationError),
        (errno.EROFS, "Read-only file system); check the folder and run it", ComputationError),
    ],
)
def test_what_the_disk_refuses_has_a_cure(number, words, kind):
    error = OSError(number, os.strerror(number))
    found = files.cannot_write(Path("a/b"), error)
    assert type(found) is kind
    assert f"cannot write a/b ({words}" in str(found)
    with pytest.raises(ComputationError) as info, files.disk_errors(Path("a/b"), cure="--resume"):
        raise error
    assert str(info.value).endswith("run it again with --resume")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("HDF5 says\nmore"), "cannot read a (HDF5 says)"),
        (OSError(), "cannot read a (OSError)"),
        (PermissionError(), "cannot read a (PermissionError)"),
    ],
)
def test_a_reason_is_one_line(error, text):
    assert files.cannot("read", Path("a"), error) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("write failed: errno = 28, error message = 'No space'", 28),
        ("errno = 122", 122),
        ("errno = , nothing", None),
        ("no number at all", None),
    ],
)
def test_the_number_in_hdf5s_words(text, number):
    assert files.errno_in(text) == number


@pytest.mark.parametrize(("option", "word"), [(False, "out"), (True, "-o")])
def test_the_place_of_a_result_is_named_in_both_words(option, word):
    with words_of_the_command_line() if option else contextlib.nullcontext():
        assert files.output_argument() == word
        assert files.elsewhere() == f"choose another {word}"
