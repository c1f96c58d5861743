"""TOML settings: complete, described, read back as they were, and wrong ones in one line."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from deeph_zero.errors import InputError
from deeph_zero.settings.config import FitConfig, TrainingConfig
from deeph_zero.settings.config_file import (
    RunSettings,
    _quoted,
    document,
    fit_settings,
    read_config,
    sections_of,
    to_toml,
)


def write(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_printed_file_is_complete_and_reads_as_the_defaults(tmp_path):
    text = to_toml(RunSettings())
    assert fit_settings(read_config(write(tmp_path, text))) == FitConfig()
    for name, field in RunSettings.model_fields.items():
        assert f"[{name}]" in text
        for key, info in type(field.default).model_fields.items():
            assert info.exclude or f"\n{key} =" in text or f"\n# {key} =" in text, key
    plain = text.replace("\n# ", " ")
    for key, info in TrainingConfig.model_fields.items():
        assert str(info.description) in plain, key
    assert max(len(line) for line in text.splitlines()) <= 100


def test_every_setting_survives_the_file(tmp_path):
    values = {
        "data": {"train": ["a b.xyz", 'q"u.xyz', "smiles:CCO"], "labels": ["l.h5"]},
        "method": {"xc": "pbe0", "charge": -1, "spin": 1, "auxbasis": "weigend"},
        "model": {"size": "tiny", "cutoff": 9.5, "dtype": "float64"},
        "training": {"loss": "energy:0.1,supervised@0.5", "steps": 7, "learning_rate": 1e-05,
                     "supervised_blocks": [0, 0.5, 1.0]},
        "runtime": {"threads": 2, "seed": 9, "max_time": "1h30m"},
    }  # fmt: skip
    config = fit_settings(values)
    back = fit_settings(read_config(write(tmp_path, to_toml(sections_of(config)))))
    assert back.runtime.max_time == 5400.0
    changed = {"data"}
    assert back.model_dump(exclude=changed) == config.model_dump(exclude=changed)
    again = fit_settings(read_config(write(tmp_path, to_toml(sections_of(back)))))
    assert again == back


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "settings"
    folder.mkdir()
    path = write(folder, '[data]\ntrain = ["a.xyz", "/b.xyz", "smiles:CO"]\n[training]\ninit="m"\n')
    monkeypatch.chdir(tmp_path)
    config = fit_settings(read_config("settings/c.toml"))
    assert config.data.train == ("settings/a.xyz", "/b.xyz", "smiles:CO")
    assert config.init == "settings/m"
    absolute = sections_of(config)
    assert absolute.data.train == (str(folder / "a.xyz"), "/b.xyz", "smiles:CO")
    assert absolute.training.init == str(folder / "m")
    assert read_config(path)["data"]["train"][0] == str(folder / "a.xyz")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[training]\nepoch = 3\n", "unknown setting 'training.epoch'; did you mean 'epochs'?"),
        ("[trainig]\nepochs = 3\n", "unknown setting 'trainig'; did you mean 'training'?"),
        ("epochs = 3\n", "unknown setting 'epochs'; did you mean 'training.epochs'?"),
        ("[method]\nseed = 3\n", "unknown setting 'method.seed'; did you mean 'runtime.seed'?"),
        (
            "[model]\nqqqq = 3\n",
            "unknown setting 'model.qqqq'; known are inputs, interaction, size, cutoff, dtype",
        ),
        ("[training]\nepochs = 'ten'\n", "training.epochs: expected a whole number from 1 up, got"),
        ("[training]\nepochs = '10'\n", "training.epochs: expected a whole number from 1 up, got"),
        ("[training]\nepochs = true\n", "training.epochs: expected a whole number from 1 up, got"),
        ("[training]\nepochs = 2.5\n", "training.epochs: expected a whole number from 1 up, got"),
        ("[training]\nlearning_rate = nan\n", "training.learning_rate: expected a number above 0"),
        ("[method]\ndensity_fit = 'no'\n", "method.density_fit: expected true or false, got 'no'"),
        ("[method]\ndensity_fit = 1\n", "method.density_fit: expected true or false, got 1"),
        ("[method]\nxc = 5\n", "method.xc: expected a name, got 5"),
        ("[model]\nsize = 'smal'\n", "model.size: expected one of tiny, small, medium, large, got"),
        ("[data]\ntrain = 'a.xyz'\n", "data.train: expected a list of names, got 'a.xyz'"),
        ("[data]\ntrain = [1]\n", "data.train: expected a list of names"),
        ("[training]\nsupervised_blocks = [1]\n", "expected a list of 3 numbers"),
        ("method = 'pbe'\n", "method: expected a section of settings, got 'pbe'"),
        ("[training]\nloss = 'enrgy'\n", "training.loss: "),
        (
            "[training]\nepochs = 1\nsteps = 1\n",
            "training.epochs and training.steps exclude each other",
        ),
        ("[runtime]\nmax_time = 'soon'\n", "runtime.max_time: expected a positive time"),
        ("[method]\nxc = pbe\n", "not TOML at line 2 (Invalid value); correct it"),
        ("[method\n", "not TOML at line 1"),
        ("[method]\nxc =", "not TOML at"),
        ("[method]\n[method]\n", "not TOML at line 2"),
        (b"\xff\xfe\x00", "the content is binary"),
    ],
)
def test_wrong_files_are_one_line_with_file_and_key(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as info:
        read_config(path)
    assert str(info.value).startswith(f"{path}: ")
    assert words in str(info.value)
    assert len(str(info.value).splitlines()) == 1


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"there is none; check the path, or write one with"):
        read_config(tmp_path / "no.toml")
    with pytest.raises(InputError, match="this is a folder"):
        read_config(tmp_path)


@budget(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_can_be_quoted(text):
    text = text.encode(errors="ignore").decode()
    assert tomllib.loads(f"a = {_quoted(text)}")["a"] == text


def test_the_page_in_docs_is_current():
    page = Path(__file__).parents[2] / "docs/config.md"
    assert page.read_text("utf-8") == document(), "run python -m deeph_zero.settings.config_file"
