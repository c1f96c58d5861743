"""Names of models that come with the package: found, meant, damaged."""

import hashlib
import json

import pytest

from deeph_zero.errors import InputError
from deeph_zero.host import saying, shipped
from deeph_zero.model_files import registry
from deeph_zero.model_files.folder import model_folder

FILES = {"model.safetensors": b"weights", "model.json": b"{}", "card.json": b"{}"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two models of which only checksums matter."""
    place = tmp_path / "shipped"
    index = {}
    for name in ("water-pbe", "organic-b3lyp"):
        (place / name).mkdir(parents=True)
        for file, content in FILES.items():
            (place / name / file).write_bytes(content)
        index[name] = {file: hashlib.sha256(c).hexdigest() for file, c in FILES.items()}
    (place / shipped.INDEX).write_text(json.dumps(index))
    monkeypatch.setattr(shipped, "FOLDER", place)
    monkeypatch.chdir(tmp_path)
    return place


def test_names_are_those_of_the_index(folder):
    assert registry.names() == ["water-pbe", "organic-b3lyp"]
    assert registry.shipped_folder("water-pbe") == folder / "water-pbe"
    with pytest.raises(InputError, match=r"organic-b3lyp.*got 'water-pb'; did you mean water-pbe"):
        registry.shipped_folder("water-pb")
    with pytest.raises(InputError, match="`deeph-zero models` lists them"):
        registry.shipped_folder("zzz")


@pytest.mark.parametrize("text", ["Water_PBE", "water-pbe/", "organic-b3lyb"])
def test_what_was_meant(folder, text):
    assert folder.exists()
    assert registry.nearest(text) == ("water-pbe" if text.lower()[0] == "w" else "organic-b3lyp")
    assert registry.nearest("runs/water-pbe") is None
    assert registry.nearest("model.safetensors") is None


def test_what_is_in_the_folder_comes_first(folder, monkeypatch):
    said = []
    monkeypatch.setattr(registry, "say_once", said.append)
    assert registry.given_by_name("water-pbe")
    assert not registry.given_by_name("./water-pbe")
    own = folder.parent / "water-pbe"
    own.mkdir()
    assert not registry.given_by_name("water-pbe")
    with pytest.raises(InputError, match=r"has no model\.safetensors; rename it to use water-pbe"):
        model_folder("water-pbe")
    assert said == []  # the error says it
    (own / "model.safetensors").touch()
    assert model_folder("water-pbe").samefile(own)
    assert len(said) == 1
    assert saying.say_once is not registry.say_once


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_was_changed_or_is_missing_is_named(folder, file):
    path = folder / "water-pbe" / file
    path.write_bytes(b"other")
    with pytest.raises(InputError, match=r"as it was packed, got another content .5 bytes"):
        registry.shipped_folder("water-pbe")
    path.unlink()
    with pytest.raises(InputError, match="which cannot be read"):
        registry.shipped_folder("water-pbe")
    assert registry.shipped_folder("organic-b3lyp")


def test_a_damaged_index_is_named(folder):
    (folder / shipped.INDEX).write_text('{"water-pbe": 3}')
    with pytest.raises(InputError, match="expected the list of models"):
        registry.names()


def test_a_card_that_is_none_is_named(folder):
    assert folder.exists()
    with pytest.raises(InputError, match=r"card\.json: expected the card of a model"):
        registry.card("water-pbe")
