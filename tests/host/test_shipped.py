"""The index of models in the package: names, checksums, and what is no index."""

import json

import pytest

from deeph_zero.errors import InputError
from deeph_zero.host import shipped

ENTRY = dict.fromkeys(shipped.FILES, "0" * 64)


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    return tmp_path / shipped.INDEX


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("tiny-pbe", True),
        ("", False),
        (" ", False),
        ("a/b", False),
        ("run.h5", False),
        ("..", False),
    ],
)
def test_names_are_no_paths(text, possible):
    assert shipped.may_be_name(text) is possible


@pytest.mark.usefixtures("index")
def test_without_an_index_there_is_no_model():
    assert shipped.checksums() == {}
    assert not shipped.is_name("tiny-pbe")


def test_the_order_of_the_index_is_kept(index):
    index.write_text(json.dumps({"zeta": ENTRY, "alpha": ENTRY}))
    assert list(shipped.checksums()) == ["zeta", "alpha"]
    assert shipped.is_name("zeta")
    assert not shipped.is_name("ZETA")
    assert not shipped.is_name("zeta/")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"a": 1}', '{"a": {"model.json": "0"}}', '{"a": {}}', b"\xff\xfe{}",
     json.dumps({"../a": ENTRY}), json.dumps({"a": ENTRY | {"more.json": "0"}})],
)  # fmt: skip
def test_a_damaged_index_says_what_to_do(index, text):
    index.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"index.json: expected the list of models.*; install "):
        shipped.is_name("a")


def test_the_index_of_the_package_has_every_file():
    for name, entry in shipped.checksums().items():
        for file, digest in entry.items():
            assert (shipped.FOLDER / name / file).is_file()
            assert len(digest) == 64
