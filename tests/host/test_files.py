"""Text, JSON and tables on disk: whole or not at all, and never through a link."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from deeph_zero.errors import ComputationError, InputError
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
