"""Models that come with the package: found by name, proven, and used wherever a model is."""

import importlib
import json
import shutil
from pathlib import Path

import ase
import pytest
from pyscf import dft, gto

from deeph_zero.ase import DeepHZero
from deeph_zero.cli import models
from deeph_zero.cli.initial import starting_from, with_elements
from deeph_zero.data.structures import from_atoms, read_structures
from deeph_zero.errors import InputError
from deeph_zero.host import saying
from deeph_zero.host import shipped as shipped_files
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.model import load
from deeph_zero.model_files import registry
from deeph_zero.model_files.card import Card
from deeph_zero.model_files.folder import fingerprint, model_folder
from deeph_zero.settings.config import FitConfig, MethodConfig
from deeph_zero.settings.config_file import sections_of

ROOT = Path(__file__).parents[2]
FACTS = """
title = "water for tests"
trained = "not at all"
data = "three waters"
recipe = ["none"]
unknown = ["anything but water", "charges"]
cost = { training_cpu_hours = 0.25 }
"""


@pytest.fixture
def pack(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/pretrain"))
    return importlib.import_module("pack")


@pytest.fixture
def shipped(folder, trained, pack, monkeypatch, tmp_path) -> Path:
    """A registry of one model, ``tiny-pbe``; the working folder is ``folder``."""
    assert Path.cwd() == folder
    place = tmp_path / "shipped"
    (tmp_path / "facts.toml").write_text(FACTS)
    row = {"atoms": 3, "elements": ["O", "H"], "errors": {"rebuilt": -2e-5, "homo": 3e-3}}
    (tmp_path / "m.json").write_text(json.dumps({"structures": [row, row | {"atoms": 4}]}))
    words = [str(trained), "--name", "tiny-pbe", "--facts", str(tmp_path / "facts.toml")]
    words += ["--structures", "frames.xyz", "--into", str(place)]
    assert pack.main([*words, "--measured", f"other waters={tmp_path / 'm.json'}"]) == 0
    monkeypatch.setattr(shipped_files, "FOLDER", place)
    return place


@pytest.mark.usefixtures("folder")
def test_without_models_nothing_breaks(run, tmp_path, monkeypatch):
    for place in (tmp_path / "none", tmp_path / "empty"):
        monkeypatch.setattr(shipped_files, "FOLDER", place)
        assert run("models").out == "no model comes with this version of the package\n"
        assert json.loads(run("models", "--json").out) == {"models": []}
        result = run("models", "organic-pbe")
        assert result.code == 2
        assert "there are none in this version" in result.err
        assert run("predict", "organic-pbe", "good.xyz").code == 2
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "empty/index.json").write_text("{}")


@pytest.mark.usefixtures("shipped")
def test_the_list_and_the_card(run):
    listed = run("models").out
    assert all(word in listed for word in ("tiny-pbe", "H O", "pbe/sto-3g", "to 4", "20", "3.00"))
    assert "errors of other waters (2), none of them trained on" in listed
    (entry,) = json.loads(run("models", "--json").out)["models"]
    assert entry == json.loads(run("models", "tiny-pbe", "--json").out)
    assert entry["domain"]["atoms"] == 4, "what was measured counts"
    assert entry["domain"]["states"] == [[0, 0]]
    assert entry["training"] == {
        "structures": 3, "atoms": [3, 3], "with_element": {"H": 3, "O": 3}, "epochs": None,
        "steps": None, "seed": None, "wall_time_s": None,
    }  # fmt: skip
    assert [s["name"] for s in entry["errors_by_atoms"]] == ["1 to 3", "4 to 6"]
    assert [s["structures"] for s in entry["errors_by_element"]] == [2, 2]
    assert entry["errors"][0]["errors"]["rebuilt"] == 2e-5
    shown = run("models", "tiny-pbe").out
    words = (
        "not at all",
        "three waters",
        "training 0.2 CPU hours",
        "anything but water",
        "3 with H",
    )
    assert all(word in shown for word in words)


@pytest.mark.usefixtures("shipped")
def test_a_name_is_a_model_in_commands_and_python(run, trained):
    assert model_folder("tiny-pbe").name == "tiny-pbe"
    assert fingerprint("tiny-pbe") == fingerprint(trained)
    model = load("tiny-pbe")
    assert model.card is not None
    assert model.card.name == "tiny-pbe"
    assert load(trained).card is None
    result = run("predict", "tiny-pbe", "good.xyz", "--no-certificate", "--json")
    assert result.code == 0, result.err
    assert result.err == ""
    words = ["--basis", "sto-3g", "--grid-level", "0", "--model", "tiny-pbe", "--charge", "1"]
    result = run("label", "good.xyz", *words, "--spin", "1")
    assert result.code == 0, result.err
    (line,) = result.err.splitlines()
    assert "good.xyz frame 0: outside what tiny-pbe was checked on, its start may be poor" in line


def test_what_is_called_so_in_the_folder_is_taken_first(shipped, run, trained, caplog):
    del shipped
    shutil.copytree(trained, "tiny-pbe")
    saying.say_once.cache_clear()
    assert load("tiny-pbe").card is None
    assert caplog.text.count("taken is what is called so in this folder") == 1
    shutil.rmtree("tiny-pbe")
    Path("tiny-pbe").mkdir()
    result = run("predict", "tiny-pbe", "good.xyz")
    assert result.code == 2
    assert result.err.splitlines()[-1] == (
        "error: expected a model (run folder or model.safetensors), got tiny-pbe, which has no "
        "model.safetensors; rename it to use tiny-pbe, the model that comes with the package"
    )


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("name", ["tiny-pbo", "Tiny-PBE", "tiny_pbe", "tinypbe", "tiny-pbe/"])
def test_a_wrong_name_gets_a_near_one(run, name):
    result = run("predict", name, "good.xyz")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "did you mean tiny-pbe, which comes with the package?" in result.err
    result = run("models", name)
    assert result.code == 2
    assert result.err.endswith("did you mean tiny-pbe?\n")


@pytest.mark.parametrize("file", ["model.safetensors", "model.json", "card.json"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_file_that_is_not_as_it_was_packed_is_refused(shipped, run, file, how):
    path = shipped / "tiny-pbe" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content if how == "changed" else content[:-9])
    for words in (["models"], ["models", "tiny-pbe"], ["predict", "tiny-pbe", "good.xyz"]):
        result = run(*words)
        assert result.code == 2
        assert result.err.count("\n") == 1
        assert file in result.err
        assert "install deeph-zero again" in result.err
    with pytest.raises(InputError, match="install deeph-zero again"):
        load("tiny-pbe")


def test_a_damaged_index_is_one_line(shipped, run):
    for text in ("", "[]", '{"../x": {}}', '{"a": {"model.json": 1}}', '{"a": 3}'):
        (shipped / "index.json").write_text(text)
        for words in (["models"], ["predict", "tiny-pbe", "good.xyz"]):
            result = run(*words)
            assert result.code == 2
            assert result.err.count("\n") == 1
            assert "expected the list of models" in result.err


def outside(model, symbols, positions, **info):
    atoms = ase.Atoms(symbols, positions=positions)
    atoms.info |= info
    return model.predict(atoms, certificate=False).out_of_distribution


@pytest.mark.usefixtures("shipped")
def test_a_molecule_outside_the_card_is_flagged():
    model = load("tiny-pbe")
    water = [[0, 0, 0.1], [0, 0.76, 0.58], [0.05, -0.74, 0.61]]
    assert outside(model, "OH2", water) == ()
    (reason,) = outside(model, "OH", water[:2], spin=1)
    assert reason == "charge 0 and spin 1, tiny-pbe knows charge 0 and spin 0 only"
    far = [*water, *([x, y, z + 9.0] for x, y, z in water)]
    size, apart = outside(model, "OH2OH2", far)
    assert size == "6 atoms, tiny-pbe was checked on 4 at most"
    assert apart.startswith("parts 8.5 angstrom apart, tiny-pbe was trained on 1.9")


@pytest.mark.usefixtures("shipped")
def test_python_users_are_told_once_too(caplog):
    model = load("tiny-pbe")
    mol = gto.M(atom="O 0 0 0.1; H 0 0.76 0.58", basis="sto-3g", spin=1, verbose=0)
    mf = dft.UKS(mol, xc="pbe").density_fit()
    mf.grids.level = 0
    with pytest.warns(UserWarning, match="differs from the model: charge 0 and spin 1, tiny-pbe"):
        model.guess(mf)
    atoms = ase.Atoms("OH", positions=[[0, 0, 0.1], [0, 0.76, 0.58]], info={"spin": 1})
    atoms.calc = DeepHZero(model, refine=1e-2)
    for _ in range(2):
        atoms.rattle(0.01)
        atoms.get_potential_energy()
    assert caplog.text.count("outside what tiny-pbe was checked on: charge 0 and spin 1") == 1


@pytest.mark.usefixtures("shipped")
def test_outside_is_one_line_and_in_the_summary(run):
    text = Path("good.xyz").read_text()
    Path("ion.xyz").write_text(text.replace("3\n\n", "3\ncharge=1 spin=1\n") * 2 + text)
    result = run("predict", "tiny-pbe", "ion.xyz", "--json", "--no-certificate")
    assert result.code == 0, result.err
    (line,) = result.err.splitlines()
    assert "ion.xyz frame 0 (2 of 3 structures): outside what the model was checked on" in line
    first, _, last = json.loads(result.out)["structures"]
    assert first["out_of_distribution"] == [
        "charge 1 and spin 1, tiny-pbe knows charge 0 and spin 0 only"
    ]
    assert "out_of_distribution" not in last
    Path("other.xyz").write_text(text.replace("O ", "N "))
    result = run("predict", "tiny-pbe", "other.xyz", "--spin", "1")
    assert result.code == 2
    assert "expected elements of the model (H, O), got N" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.usefixtures("shipped")
def test_training_takes_the_method_that_was_not_stated(run, engine):
    result = run("fit", "good.xyz", "--init", "tiny-pbe")
    assert result.code == 0, result.err
    assert "taken from --init tiny-pbe: --basis sto-3g, --grid-level 0" in result.out
    assert "tip:" not in result.out
    method = engine.calls[-1]["config"].method
    assert (method.basis, method.xc, method.grid_level) == ("sto-3g", "pbe", 0)
    Path("deep").mkdir()
    Path("deep/run.toml").write_text(
        '[data]\ntrain = ["../good.xyz"]\n[method]\nbasis = "STO-3G"\nxc = "b3lyp"\n'
        '[training]\ninit = "tiny-pbe"\n'
    )
    result = run("train", "deep/run.toml")
    assert result.code == 0, result.err
    assert "taken from --init tiny-pbe: --grid-level 0\n" in result.out
    (line,) = [s for s in result.out.splitlines() if "as stated" in s]
    assert "was trained with --xc pbe, this run has --xc b3lyp as stated" in line
    method = engine.calls[-1]["config"].method
    assert (method.basis, method.xc, method.grid_level) == ("STO-3G", "b3lyp", 0)
    again = sections_of(engine.calls[-1]["config"])
    assert again.training.init == "tiny-pbe", "a run can be repeated in any folder"
    shutil.copytree("model", "tiny-pbe")
    assert sections_of(engine.calls[-1]["config"]).training.init == str(Path.cwd() / "tiny-pbe")
    shutil.rmtree("tiny-pbe")
    assert run("fit", "good.xyz", "-o", "x", "--init", "tiny-pbe", "--basis", "6-31g").err == (
        "error: --init tiny-pbe: expected a model for basis '6-31g', got one for 'sto-3g'; give "
        "--basis the same\n"
    )
    assert "`deeph-zero models tiny-pbe` shows its card" in run("report", "tiny-pbe").err
    assert run("fit", "good.xyz", "-o", "x", "--init", "tiny-pbf").err == (
        "error: --init tiny-pbf: expected a model (run folder or model.safetensors), got tiny-pbf, "
        "which does not exist; did you mean tiny-pbe, which comes with the package?\n"
    )


TIP = "tip: --init tiny-pbe starts from a model that comes with the package"


@pytest.mark.usefixtures("shipped", "engine")
@pytest.mark.parametrize(
    ("words", "tip"),
    [
        ([], True),
        (["--xc", "PBE,PBE"], True),
        (["--xc", "pbe0"], False),
        (["--basis", "def2-svp"], False),
        (["--charge", "1", "--spin", "1"], False),
        (["--no-density-fit"], False),
        (["--inputs", "physics"], False),
        (["--unrestricted"], False),
        (["--json"], False),
    ],
)
def test_training_is_told_of_a_model_that_fits(run, words, tip):
    basis = [] if "--basis" in words else ["--basis", "sto-3g"]
    result = run("fit", "good.xyz", *basis, *words)
    assert result.code == 0, result.err
    assert result.err == ""
    assert (TIP in result.out) == tip
    if tip:
        Path("other.xyz").write_text(Path("good.xyz").read_text().replace("O ", "S "))
        assert TIP not in run("fit", "other.xyz", *basis, *words).out


@pytest.mark.usefixtures("shipped", "engine")
@pytest.mark.parametrize(
    ("words", "tip"),
    [
        (["--samples", "99"], True),
        (["--samples", "98"], False),
        (["--samples", "99", "--inputs", "physics"], False),
        (["--samples", "99", "--inputs", "geometry"], False),
        (["--samples", "99", "--json"], False),
    ],
)
def test_many_geometries_are_advised_inputs_without_a_build(run, words, tip):
    result = run("fit", "good.xyz", "--basis", "6-31g", *words)
    assert result.code == 0, result.err
    assert ("tip: with 100 geometries to learn from, --inputs geometry" in result.out) == tip


@pytest.mark.usefixtures("shipped")
def test_what_a_model_does_not_know_is_solved_for_in_closed_form():
    waters, _ = read_structures(["good.xyz"])
    sulfide = from_atoms(ase.Atoms("SH2", [[0, 0, 0], [0.98, 0.9, 0], [-0.98, 0.9, 0]]))

    def closed_form(molecules=waters, stated=None, **method):
        own = MethodConfig.parse({"basis": "sto-3g"} | method)
        config = FitConfig(init="tiny-pbe", method=own, closed_form=stated)
        config, known = starting_from(config, SilentReporter())
        return with_elements(config, known, molecules).closed_form

    assert closed_form() is None
    assert closed_form(xc="PBE,PBE") is None, "the same functional"
    assert closed_form(xc="b3lyp")
    assert closed_form(density_fit=False)
    assert closed_form([*waters, sulfide])
    assert closed_form([sulfide], False, xc="b3lyp") is False, "as stated"
    assert with_elements(FitConfig(), None, waters) == FitConfig()


def test_packing_again_keeps_the_weights_and_takes_new_facts(shipped, pack, tmp_path, capsys):
    before = (shipped / "tiny-pbe/model.safetensors").read_bytes()
    (tmp_path / "facts.toml").write_text(FACTS + "[domain]\natoms = 21\n")
    words = ["--card-only", "--name", "tiny-pbe", "--facts", str(tmp_path / "facts.toml")]
    words += ["--into", str(shipped)]
    assert pack.main(words) == 0
    card = registry.card("tiny-pbe")
    assert (card.domain.atoms, card.errors, card.training.structures) == (21, (), 3)
    assert (shipped / "tiny-pbe/model.safetensors").read_bytes() == before
    assert load("tiny-pbe").card == card
    (tmp_path / "facts.toml").write_text(FACTS + 'tittle = "x"\n')
    capsys.readouterr()
    assert pack.main(words) == 2
    assert "unknown ['tittle']" in capsys.readouterr().err


CARD = {
    "kind": "deeph-zero card", "format_version": 1, "name": "small-pbe", "title": "small molecules",
    "license": "Apache-2.0", "inputs": "geometry", "parameters": 1234, "bytes": 2_500_000,
    "method": {
        "xc": "pbe", "basis": "def2-svp", "auxbasis": "jfit", "density_fit": True, "grid_level": 3,
    },
    "trained": "here", "data": "made", "recipe": ["one", "two"], "unknown": ["metals", "ions"],
    "cost": {"labels_cpu_hours": 1.25, "training_cpu_hours": 10, "other": 0.5},
    "training": {"structures": 5, "atoms": [1, 4], "with_element": {"H": 5, "O": 3}},
    "domain": {"elements": ["H", "O"], "states": [[0, 0], [1, 1]], "atoms": 12},
    "intervals": {"coverage": 0.95, "n": 40},
    "errors": [
        {"name": f"set {k}", "structures": 10 * k,
         "errors": {"rebuilt": 1.25e-5, "homo": 2e-3 * k} | ({"coverage": 0.94} if k > 1 else {})}
        for k in (1, 2, 3, 4)
    ],
}  # fmt: skip


def shown_card(said, monkeypatch, columns=200, **changes):
    monkeypatch.setenv("COLUMNS", str(columns))
    models._show(Card.model_validate(CARD | changes), said)
    return said


def test_a_card_says_all_it_knows(said, monkeypatch):
    shown_card(said, monkeypatch)
    cells = {row[0]: row[1:] for row in said.tables[0][2]}
    assert said.tables[0][0] == "small-pbe: small molecules"
    assert cells["method"] == ["pbe/def2-svp, fitted with jfit, grid level 3"]
    assert cells["state"] == ["charge 0, spin (2S) 0, charge 1, spin (2S) 1"]
    assert cells["atoms"] == ["1 to 4 in training, errors checked up to 12"]
    assert cells["reads"] == ["geometry; 1234 parameters, 2.5 MB"]
    assert cells["structures"][0] == "5: 5 with H, 3 with O"
    assert cells["cost"] == ["labels 1.2 CPU hours, training 10.0 CPU hours, other 0.5 CPU hours"]
    assert cells["intervals"] == ["95 %, from 40 structures kept out of training"]
    assert cells["does not know"] == ["metals"]
    assert cells[""] == ["ions"], "the next line of the same"
    assert said.messages == ["next: deeph-zero predict small-pbe STRUCTURES"]


def test_a_card_that_lacks_things_says_so(said, monkeypatch):
    method = CARD["method"] | {"density_fit": False, "auxbasis": None}
    cells = shown_card(said, monkeypatch, method=method, intervals=None, errors=()).cells
    assert cells["method"] == ["pbe/def2-svp, four-centre integrals, grid level 3"]
    assert cells["intervals"] == ["none: it was not calibrated"]
    assert len(said.tables) == 1


def test_errors_are_in_their_units_and_what_no_set_has_is_left_out(said, monkeypatch):
    cells = shown_card(said, monkeypatch).cells
    (title, head, rows) = said.tables[1]
    assert title == "mean absolute errors"
    assert head == ["", "set 1", "set 2", "set 3", "set 4"]
    assert cells["structures"] == ["10", "20", "30", "40"]
    assert [row[0] for row in rows[1:]] == ["H~ / uEh", "HOMO / mEh", "energy in interval / %"]
    assert cells["H~ / uEh"] == ["12"] * 4
    assert cells["HOMO / mEh"] == ["2.00", "4.00", "6.00", "8.00"]
    assert cells["energy in interval / %"] == ["-", "94.0", "94.0", "94.0"]


def test_errors_of_the_models_that_come_are_no_zeros(run):
    lines = [line for line in run("models", "organic-pbe").out.splitlines() if "/" in line]
    small = [line.split() for line in lines if line.startswith("energy") and "Eh" in line]
    small += [line.split() for line in lines if ", estimated /" in line]
    assert len(small) > 10
    assert all(float(word) > 0 for words in small for word in words[words.index("/") + 2 :])


@pytest.mark.parametrize(("columns", "parts"), [(40, [1, 1, 1, 1]), (45, [2, 2]), (200, [4])])
def test_sets_that_do_not_fit_beside_each_other_stand_below(said, monkeypatch, columns, parts):
    tables = shown_card(said, monkeypatch, columns).tables[1:]
    assert [len(head) - 1 for _, head, _ in tables] == parts
    assert [name for _, head, _ in tables for name in head[1:]] == [f"set {k}" for k in range(1, 5)]


@pytest.mark.parametrize(("columns", "heads"), [(80, 6), (150, 9)])
def test_a_list_of_models_fits_the_terminal(said, monkeypatch, columns, heads):
    monkeypatch.setenv("COLUMNS", str(columns))
    bare = Card.model_validate(CARD | {"name": "bare", "errors": []})
    models._list([Card.model_validate(CARD), bare], said)
    ((_, head, rows),) = said.tables
    assert len(head) == heads
    assert all(len(row) == heads for row in rows)
    assert rows[0][:4] == ["small-pbe", "H O", "pbe/def2-svp", "to 12"]
    assert ("2.5" in rows[0]) is (columns > 100)
    assert rows[1][-1] == "-"
    assert said.messages == [
        "errors of set 1 (10), none of them trained on", "more: deeph-zero models small-pbe",
    ]  # fmt: skip
