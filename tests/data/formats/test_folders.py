"""Folders of structures: found, read, refused as an output, and written whole or not at all."""

import pytest

from deeph_zero.data.formats.folders import (
    check_folder,
    numbers_of,
    structure_folders,
    text_in,
    whole_folder,
)
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import ComputationError, InputError


def made(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return folder


def made_then(folder, error):
    made(folder, "new")
    return error


# ---- reading -----------------------------------------------------------------------------------


def test_where_the_structures_are(tmp_path):
    one = made(tmp_path / "one", "info.json", "sub/info.json")
    assert structure_folders(one, "info.json") == [one]
    many = made(tmp_path / "many", "b/info.json", "a/info.json", "c/other.json", "info.txt")
    assert structure_folders(many, "info.json") == [many / "a", many / "b"]
    dft = made(tmp_path / "raw", "dft/2/info.json", "dft/1/info.json", "x/info.json")
    assert structure_folders(dft, "info.json") == [dft / "dft" / "1", dft / "dft" / "2"]


def test_folders_without_structures_are_refused(tmp_path):
    with pytest.raises(WholeFileError, match=r"expected info\.json in the folder or in folders"):
        structure_folders(made(tmp_path / "a", "other"), "info.json")
    with pytest.raises(WholeFileError, match=r"cannot be read \(No such file"):
        structure_folders(tmp_path / "none", "info.json")


def test_text_of_a_folder(tmp_path):
    (tmp_path / "lat.dat").write_bytes(b"1 2\r\n3\r\n")
    assert text_in(tmp_path, "lat.dat") == "1 2\n3\n"
    (tmp_path / "binary").write_bytes(b"\0\1")
    with pytest.raises(InputError, match=r"^binary: expected text, the content is binary"):
        text_in(tmp_path, "binary")
    with pytest.raises(InputError, match=r"expected none, it cannot be read \(No such file"):
        text_in(tmp_path, "none")


@pytest.mark.parametrize(
    ("line", "count", "numbers"),
    [
        ("1 2.5 -3", 3, [1, 2.5, -3]),
        ("  1.0D+01 2d-1 ignored words", 2, [10, 0.2]),
        ("1e3", 1, [1000]),
        ("anything", 0, []),
    ],
)
def test_numbers_of_a_line(line, count, numbers):
    assert numbers_of(line, count, "a line 1") == numbers


@pytest.mark.parametrize("line", ["1 2", "", "1 2 x", "1 2 nan", "1 2 inf", "1 2 1e12"])
def test_lines_of_other_words_are_refused(line):
    with pytest.raises(InputError, match=r"^lat\.dat line 2: expected 3 numbers, got .*; correct"):
        numbers_of(line, 3, "lat.dat line 2")


# ---- writing -----------------------------------------------------------------------------------


def test_free_places_and_folders_of_the_format(tmp_path):
    check_folder(tmp_path / "new", overwrite=False, ours=())
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", overwrite=False, ours=())
    old = made(tmp_path / "old", "info.json", "dft/0/info.json")
    check_folder(old, overwrite=True, ours=("info.json",))
    with pytest.raises(InputError, match="exists and is not empty; use overwrite=True or another"):
        check_folder(old, overwrite=False, ours=("info.json",))


def test_what_is_no_place_for_a_folder(tmp_path):
    made(tmp_path, "file")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(InputError, match="expected a folder to make, there is a file"):
            check_folder(tmp_path / name, overwrite=True, ours=())
    with pytest.raises(InputError, match=r"the folder .* does not exist; make it first"):
        check_folder(tmp_path / "a" / "b", overwrite=True, ours=())


@pytest.mark.parametrize("name", ["thesis.tex", "0/thesis.tex", "1/2/3/info.json"])
def test_other_files_are_never_replaced(tmp_path, name):
    old = made(tmp_path / "old", "info.json", name)
    with pytest.raises(InputError, match=f"holds {name}|holds 1/2/3, which is no file of this"):
        check_folder(old, overwrite=True, ours=("info.json",))


def test_a_link_of_the_right_name_is_another_file(tmp_path):
    old = made(tmp_path / "old", "info.json")
    (old / "lat.dat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"holds lat\.dat"):
        check_folder(old, overwrite=True, ours=("info.json", "lat.dat"))


def test_a_folder_appears_whole(tmp_path):
    old = made(tmp_path / "out", "old")
    with whole_folder(old) as folder:
        made(folder, "new")
        assert [p.name for p in old.iterdir()] == ["old"]
    assert [p.name for p in old.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    old = made(tmp_path / "out", "old")
    for raised, seen in (
        (InputError("no"), InputError),
        (OSError(28, "No space left on device"), ComputationError),
    ):
        with pytest.raises(seen), whole_folder(old) as folder:
            raise made_then(folder, raised)
    assert [p.name for p in old.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
