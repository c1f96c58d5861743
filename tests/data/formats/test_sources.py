"""What sources of folders and of single files share."""

import os

import numpy as np
import pytest

from deeph_zero.data.formats.protocol import Structure, from_dense
from deeph_zero.data.formats.sources import FolderSource, OneFileSource
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError


class Folders(FolderSource):
    needed = "info.json"


class OneFile(OneFileSource):
    ending = ".HSX"
    title = "an HSX file"
    parsed = 0

    def _parse(self, path):
        self.parsed += 1
        return (
            Structure(numbers=np.ones(1, int), coords=np.zeros((1, 3)), name=path.read_text()),
            from_dense(((0,),), np.eye(1)),
        )


def test_a_structure_per_folder(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "info.json").write_text("{}")
    source = Folders(tmp_path)
    assert len(source) == 2
    assert [source.place(k) for k in range(2)] == [str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(WholeFileError, match="cannot be read"):
        Folders(tmp_path / "c")


def test_one_file_is_read_once_and_when_asked_for(tmp_path):
    path = tmp_path / "a.hsx"
    path.write_text("one")
    for given in (path, tmp_path):
        source = OneFile(given)
        assert (len(source), source.place(0), source.parsed) == (1, str(path), 0)
        assert source.structure(0).name == "one"
        assert source.matrices(0).shells == ((0,),)
        assert source.parsed == 1
    with pytest.raises(InputError, match="expected structure 0, got 1; the file holds one"):
        source.matrices(1)


def test_which_file_of_a_folder_is_meant(tmp_path):
    with pytest.raises(WholeFileError, match=r"expected one \.HSX file in the folder, got none"):
        OneFile(tmp_path)
    for name in ("a.HSX", "b.hsx"):
        (tmp_path / name).write_text("x")
    with pytest.raises(WholeFileError, match=r"got a\.HSX, b\.hsx; name it"):
        OneFile(tmp_path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(WholeFileError, match="expected an HSX file, there is no such file"):
        OneFile(tmp_path / "none.HSX")
    os.mkfifo(tmp_path / "pipe.HSX")
    with pytest.raises(InputError):
        OneFile(tmp_path / "pipe.HSX")


def test_the_format_has_to_read_it(tmp_path):
    (tmp_path / "a.HSX").write_text("x")

    class Unfinished(OneFileSource):
        ending, title = ".HSX", "an HSX file"

    with pytest.raises(NotImplementedError):
        Unfinished(tmp_path / "a.HSX").structure(0)
