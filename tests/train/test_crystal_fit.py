"""Crystals on the command line: fit, predict, bands, and what is refused."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms

import deeph_zero as dz
from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.cli.main import entry_point
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.report.crystals import crystal_figures
from deeph_zero.report.data import read_source
from deeph_zero.train import crystal_fit

CHAIN = """2
Lattice="2.06 0 0 0 2.75 0 0 0.05 2.9" pbc="T T T"
H 0.05 0 0.1
H 0.63 0.37 0.47
"""
LARGER = """4
Lattice="4.12 0 0 0 2.75 0 0 0.05 2.9" pbc="T T T"
H 0.02 0.03 0.1
H 0.65 0.35 0.47
H 2.15 -0.02 0.08
H 2.68 0.36 0.44
"""
METHOD = [
    *("--basis", "gth-szv", "--kmesh", "2", "1", "1", "--ke-cutoff", "30"),
    *("--xc", "lda,vwn", "--pseudo", "gth-pade"),
]
CONFIG = """
[data]
train = ["chain.xyz"]
[method]
basis = "gth-szv"
xc = "lda,vwn"
[crystal]
kmesh = [2, 1, 1]
ke_cutoff = 30.0
pseudo = "gth-pade"
[model]
size = "tiny"
cutoff = 8.0
[training]
samples = 3
steps = 5
"""


ONE = """
[data]
train = ["one.xyz"]
[method]
basis = "gth-szv"
xc = "lda,vwn"
[model]
size = "tiny"
cutoff = 8.0
inputs = "{inputs}"
[crystal]
kmesh = [2, 1, 1]
ke_cutoff = 20.0
pseudo = "gth-pade"
"""
KINDS = {
    "metal": ("", ["H 0.1 0 0.2"], "smearing = 0.02"),
    "antiferromagnetic layer": (
        "Properties=species:S:1:pos:R:3:initial_magmoms:R:1",
        ["H 0.05 0 0.1 1", "H 1.6 0.1 0.2 -1"],
        "dimension = 2",
    ),
    "doublet": ("spin=1", ["H 0.05 0 0.1", "H 0.6 0.3 0.4", "H 1.6 1.4 1.1"], ""),
}
"""What a frame says beside its cell, its atoms, and a setting; the metal has geometry inputs."""


def run(*words):
    return entry_point([*(str(w) for w in words), "--threads", "1", "-q"])


def solved(folder, name):
    """One crystal of a kind fitted: its file, its entry, and arrays of the converged state."""
    says, atoms, setting = KINDS[name]
    path = folder / "one.xyz"
    height = 2.9 if "layer" not in name else 13.5
    cell = f'Lattice="3.1 0 0 0 2.75 0 0 0.05 {height}" pbc="T T T"'
    path.write_text("\n".join([str(len(atoms)), f"{cell} {says}", *atoms, ""]))
    inputs = "geometry" if name == "metal" else "physics"
    (folder / "one.toml").write_text(ONE.format(inputs=inputs) + setting)
    assert run("train", folder / "one.toml", "-o", folder / "run") == 0
    (entry,) = json.loads((folder / "run" / "summary.json").read_text())["structures"]
    with h5py.File(folder / "run" / "predictions.h5") as handle:
        arrays = {key: value[()] for key, value in handle["0000"].items()}
    return path, entry, arrays


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_fitted_and_has_its_levels_without_a_build(name, tmp_path):
    """The network saw the crystal: its levels are those of the converged F, their constant too.

    What is beyond the cutoff of 8 bohr is left: up to 1 mEh of the lowest level, 3 of the others.
    """
    path, entry, arrays = solved(tmp_path, name)
    assert entry["converged"]
    assert entry["energy_error_estimate"] < 1e-5
    assert entry["energy"] - entry["refined_energy"] < 1e-5
    occ = arrays["mo_occ"]
    if name == "metal":
        assert ((occ > 0.05) & (occ < 1.95)).any()
        assert entry["free_energy"] < entry["energy"]
        assert entry["homo"] <= entry["fermi"] <= entry["lumo"]
        assert entry["gap"] == pytest.approx(entry["lumo"] - entry["homo"])
    if "layer" in name:
        assert not arrays["block_cells"][:, 2].any()
        assert arrays["pbc"].tolist() == [1, 1, 0]
        products = arrays["density"] @ arrays["overlap"]
        up, down = np.einsum("k,skii->si", arrays["kweights"], products).real
        assert abs(entry["moment"]) < 1e-6
        assert min(up[0] - down[0], down[1] - up[1]) > 0.5
    if name == "doublet":
        np.testing.assert_allclose(occ.sum(-1).mean(-1), [2, 1])
        assert entry["moment"] == pytest.approx(1)
    out = tmp_path / "p.h5"
    assert run("predict", tmp_path / "run", path, "--no-certificate", "-o", out) == 0
    with h5py.File(out) as handle:
        wrong = handle["0000"]["mo_energy"][()] - arrays["mo_energy"]
    assert abs(wrong).max() < 5e-3
    assert abs(wrong[..., 0].mean()) < 6e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of strained and displaced cells."""
    folder = tmp_path_factory.mktemp("crystals")
    (folder / "chain.xyz").write_text(CHAIN)
    (folder / "larger.xyz").write_text(LARGER)
    (folder / "water.xyz").write_text("1\n\nHe 0 0 0\n")
    (folder / "config.toml").write_text(CONFIG)
    assert run("train", folder / "config.toml", "-o", folder / "run") == 0
    return folder


def test_a_cutoff_that_leaves_bands_out_is_said(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    for cutoff, said in (("3.5", True), ("14.0", False)):
        text = CONFIG.replace("cutoff = 8.0", f"cutoff = {cutoff}")
        (folder / "cut.toml").write_text(text.replace("samples = 3\nsteps = 5", "epochs = 1"))
        assert run("train", "cut.toml", "-o", f"cut{cutoff}") == 0
        line = f"beyond the cutoff of {float(cutoff):g} bohr are not learnt: bands are off by"
        assert (line in capfd.readouterr().err) == said


def test_a_run_is_complete(folder):
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["converged"]
    assert summary["stopped_by"] == "steps"
    assert (summary["basis"], summary["geometries"]) == ("gth-szv", 4)
    (entry,) = summary["structures"]
    assert entry["energy_estimate"] == entry["energy"] - entry["energy_error_estimate"]
    assert entry["kmesh"] == [2, 1, 1]
    names = {p.name for p in (folder / "run").iterdir()}
    assert {"model.json", "model.safetensors", "metrics.csv", "predictions.h5"} <= names
    assert "checkpoints" not in names
    lines = (folder / "run" / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,loss,val_loss"
    assert [line.split(",")[:2] for line in lines[1:]] == [["0", "0"], ["4", "1"], ["5", "2"]]


def test_a_prediction_and_its_estimate(folder):
    """Of a larger cell: energies against its SCF, blocks against matrices, k-points as dense."""
    out = folder / "p.h5"
    words = ["--refine", "1e-6", "--forces", "-o", out]
    assert run("predict", folder / "run", folder / "larger.xyz", *words) == 0
    (entry,) = json.loads(out.with_suffix(".json").read_text())["structures"]
    assert entry["kmesh"] == [1, 1, 1]
    error = entry["energy"] - entry["refined_energy"]
    assert error > 1e-8
    assert entry["energy_error_estimate"] == pytest.approx(error, rel=0.05)
    with h5py.File(out) as handle:
        group = handle["0000"]
        blocks = BlockMatrix.packed(
            torch.from_numpy(group["block_atoms"][()]),
            torch.from_numpy(group["block_cells"][()]),
            torch.from_numpy(group["blocks"][()]),
            [1] * 4,
        )
        at = blocks.at_k(torch.from_numpy(group["kpts"][()])).numpy()
        np.testing.assert_allclose(at, group["fock_rebuilt"][()], atol=2e-5)
        assert group["forces"].shape == (4, 3)
        assert abs(group["fock"][()] - group["fock_rebuilt"][()]).max() > 1e-6
        assert group.attrs["blocks_of"] == "fock_rebuilt"


def test_a_prediction_without_build_has_its_blocks(folder):
    out = folder / "q.h5"
    words = ["--no-certificate", "-o", out]
    assert run("predict", folder / "run", folder / "chain.xyz", *words) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    assert found["fock_builds"] == 0
    assert found["structures"][0]["energy"] is None
    with h5py.File(out) as handle:
        group = handle["0000"]
        blocks = BlockMatrix.packed(
            torch.from_numpy(group["block_atoms"][()]),
            torch.from_numpy(group["block_cells"][()]),
            torch.from_numpy(group["blocks"][()]),
            [1] * 2,
        )
        at = blocks.at_k(torch.from_numpy(group["kpts"][()])).numpy()
        np.testing.assert_allclose(at, group["fock"][()], atol=2e-5)
        assert "fock_rebuilt" not in group


@pytest.mark.parametrize("nth", [1, 2])
def test_ctrl_c_in_the_last_certificate_changes_nothing(tmp_path, monkeypatch, ctrl_c_in, nth):
    monkeypatch.chdir(tmp_path)
    Path("chain.xyz").write_text(CHAIN + CHAIN.replace("0.63", "0.65"))
    with ctrl_c_in(crystal_fit, "crystal_prediction_entry", nth):
        code = run("fit", "chain.xyz", *METHOD, "--epochs", 1, "-o", "run")
    kept = json.loads(Path("run/summary.json").read_text())
    with h5py.File("run/predictions.h5") as file:
        assert len(file) == nth
    assert kept["stopped_by"] == ("epochs" if nth == 2 else "interrupt")
    assert (code == 130) == (nth == 1)


def test_bands_of_a_model_are_those_of_its_matrix(folder):
    """Against Python's, whose matrices are summed on the grid and not from blocks."""
    out = folder / "b.h5"
    words = ["--path", "GY", "--points", 3, "--dos", "-o", out]
    assert run("bands", folder / "run", folder / "chain.xyz", *words) == 0
    model = dz.load(folder / "run")
    assert isinstance(model, CrystalModel)
    lines = CHAIN.splitlines()[2:]
    cell = [[2.06, 0, 0], [0, 2.75, 0], [0, 0.05, 2.9]]
    atoms = Atoms("H2", [[float(x) for x in l.split()[1:]] for l in lines], cell=cell, pbc=True)
    found = model.predict(atoms, certificate=False).bands("GY", 3)
    with h5py.File(out) as handle:
        group = handle["0000"]
        np.testing.assert_allclose(group["band_energies"][()], found.energies[0], atol=5e-5)
        assert group.attrs["fermi"] == pytest.approx(found.fermi[0], abs=1e-9)
        assert group["dos"].shape == group["dos_energies"].shape
    assert run("bands", folder / "run", "--path", "GY", "--points", 2, "-o", folder / "c.h5") == 0


def test_one_crystal_is_solved(folder, capfd):
    run_folder = folder / "one"
    assert run("fit", folder / "chain.xyz", *METHOD, "--steps", 9, "-o", run_folder) == 0
    assert "--steps: not used, one crystal is solved" in capfd.readouterr().err
    summary = json.loads((run_folder / "summary.json").read_text())
    assert summary["stopped_by"] == "converged"
    assert summary["structures"][0]["converged"]
    # the network reproduces the one crystal it saw
    assert summary["structures"][0]["energy_error_estimate"] < 1e-6
    again = ["fit", folder / "chain.xyz", *METHOD, "--steps", 9, "-o", run_folder, "--resume"]
    before = (run_folder / "summary.json").read_text()
    assert run(*again) == 0
    assert (run_folder / "summary.json").read_text() == before


def test_a_report_makes_the_bands_that_a_run_left_out(folder, tmp_path):
    """By the model beside the file: as those of stored blocks."""
    shutil.copytree(folder / "run", tmp_path / "run")
    hdf5 = tmp_path / "run" / "predictions.h5"
    with h5py.File(hdf5, "a") as handle:
        for name in [n for n in handle["0000"] if "block" in n]:
            del handle["0000"][name]
    lines = []
    for path in (folder / "run", tmp_path / "run"):
        structures = read_source(path).structures
        ((_, caption, figure),), notes = crystal_figures(path / "predictions.h5", structures)
        assert "Fermi level" in caption
        assert not notes
        lines.append([np.asarray(line.get_ydata()) for line in figure.axes[0].lines])
    assert len(lines[0]) == len(lines[1]) > 2
    stored, made = (np.concatenate([y for y in each if len(y) > 10]) for each in lines)
    # eV, from Fermi levels of F[P(H)] and of H
    change = made - stored
    np.testing.assert_allclose(change - change.mean(), 0, atol=1e-5)


def test_labels_teach_and_measure_the_same(folder, monkeypatch, capfd):
    """Supervised: a label's density gives its potential. Evaluate: errors up to a constant."""
    monkeypatch.chdir(folder)
    words = [*METHOD, "-o", "labels.h5", "--conv-tol", "1e-10"]
    assert run("label", "chain.xyz", "larger.xyz", *words) == 0
    text = CONFIG.replace('"chain.xyz"', '"chain.xyz", "larger.xyz"')
    text = text.replace("samples = 3\nsteps = 5", 'loss = "supervised"\nsteps = 2')
    text = text.replace("[method]", 'labels = ["labels.h5"]\n[method]')
    (folder / "supervised.toml").write_text(text)
    assert run("train", "supervised.toml", "-o", "taught") == 0
    for model in ("taught", "run"):
        assert run("evaluate", model, "labels.h5", "--no-scf", "-o", f"{model}.json") == 0
    taught, other = (json.loads((folder / f"{m}.json").read_text()) for m in ("taught", "run"))
    assert len(taught["structures"]) == 2
    assert taught["errors"]["fock"]["mae"]["mean"] < 0.2 * other["errors"]["fock"]["mae"]["mean"]
    for row in other["structures"]:
        assert row["energy_error"] == pytest.approx(row["energy_error_estimate"], rel=0.1)
        assert row["energy_error_per_atom"] == row["energy_error"] / row["natm"]
        assert row["rebuilt"]["bands_max"] < row["fock"]["bands_max"]
    for old, new, message in (
        ('xc = "lda,vwn"', 'xc = "pbe"', "expected labels of method.xc pbe, got lda,vwn"),
        ("kmesh = [2, 1, 1]", "kmesh = [1, 1, 1]", "expected a label at k-points (1, 1, 1)"),
        ('xc = "lda,vwn"', 'xc = "pbe0"', "expected a semilocal functional for a network"),
    ):
        (folder / "wrong.toml").write_text(text.replace(old, new))
        assert run("train", "wrong.toml", "-o", "wrong") == 2
        assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["predict", "run", "water.xyz"], "expected a crystal (a cell and pbc)"),
        (
            ["predict", "run", "chain.xyz", "--response"],
            "--response: expected a model of molecules",
        ),
        (["label", "water.xyz", "--model", "run"], "expected a model of molecules, got one of cry"),
        (["fit", "chain.xyz", "--calibration", "19"], "--calibration: expected frames twice as"),
        (["fit", "chain.xyz", "--loss", "energy"], "--loss: expected auto or supervised"),
        (["fit", "water.xyz", "--kmesh", "2", "2", "1"], "--kmesh: expected a crystal"),
        (["fit", "chain.xyz", "water.xyz"], "expected crystals only beside a crystal"),
        (["bands", "p.h5", "--kmesh", "1", "1", "1"], "--kmesh: expected MODEL STRUCTURES"),
    ],
)
def test_what_does_not_go_together(folder, monkeypatch, capfd, words, text):
    monkeypatch.chdir(folder)
    out = "refused" if words[0] == "fit" else "refused.h5"
    assert run(*words, "-o", out) == 2
    err = capfd.readouterr().err
    assert text in err
    assert len(err.strip().splitlines()) == 1
    assert not (folder / out).exists()
