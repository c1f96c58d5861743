"""A projected potential against matrices that PySCF knows, and what is said of coarse grids."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pyscf.pbc import gto
from pyscf.pbc.dft import numint

from deeph_zero.data.formats.labels import LabelsSource
from deeph_zero.data.potentials.grid import GridPotential
from deeph_zero.data.radial.choice import Basis, Pseudopotentials
from deeph_zero.integrals.basis_sets import shells_of
from deeph_zero.integrals.periodic.gth import gth_parameters
from deeph_zero.jobs.project import _edges, run_project
from deeph_zero.jobs.projection_setup import Given
from deeph_zero.molecule import Molecule
from deeph_zero.settings.project_config import ProjectConfig
from deeph_zero.testing import Listener

LATTICE = np.array([[4.0, 0.2, 0], [0, 4.4, 0.1], [0.3, 0, 4.8]])
COORDS = np.array([[0.2, 0.1, 0.3], [1.5, 0.4, 0.9]])
MESH = (15, 15, 16)
KMESH = (1, 1, 3)


def values(amplitude=0.3, constant=0.0, *, seed=0):
    """Smooth: a few long waves."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.arange(n) / n for n in MESH), indexing="ij")
    found = np.full(MESH, constant)
    for _ in range(3):
        wave = rng.integers(-1, 2, size=3)
        phase = 2 * np.pi * sum(k * x for k, x in zip(wave, grids, strict=True))
        found += amplitude * np.cos(phase + rng.normal())
    return found


def given(*fields, spin=0, fix_spin=False):
    gth = {"H": gth_parameters("gth-pade", "H")}
    return Given(
        potential=GridPotential(values=np.array(fields), lattice=LATTICE),
        structure=Molecule(
            numbers=np.array([1, 1]), coords=COORDS, lattice=LATTICE, pbc=(True, True, True),
            spin=spin, file="h2.xyz", frame=3,
        ),
        basis=Basis(label="gth-szv", gaussian={"H": shells_of("gth-szv", "H")}),
        pseudopotentials=Pseudopotentials(label="gth-pade", gth=gth, upf={}),
        path=Path("v.npy"),
        fix_spin=fix_spin,
    )  # fmt: skip


def projected(out, *fields, spin=0, fix_spin=False, **config):
    settings = {"kmesh": KMESH, "block_mesh": (3, 3, 3), "path": "GX", "points": 5} | config
    told = Listener()
    summary = run_project(
        ProjectConfig.parse(settings), given(*fields, spin=spin, fix_spin=fix_spin), out,
        reporter=told, command="deeph-zero project v.npy h2.xyz",
    )  # fmt: skip
    with h5py.File(out) as file:
        arrays = {name: data[()] for name, data in file["0000"].items()}
        return summary, arrays, dict(file["0000"].attrs), told


@pytest.fixture(scope="module")
def cell():
    made = gto.Cell()
    made.atom = [("H", place) for place in COORDS]
    made.a, made.unit, made.basis, made.verbose = LATTICE, "B", "gth-szv", 0
    made.pseudo, made.mesh, made.precision = "gth-pade", MESH, 1e-10
    return made.build()


def kinetic(cell, arrays):
    kpts = cell.get_abs_kpts(arrays["kpts"])
    names = ("int1e_kin", "int1e_ovlp")
    return [np.array(cell.pbc_intor(name, hermi=1, kpts=kpts)) for name in names]


def test_a_constant_is_the_kinetic_energy_and_a_multiple_of_the_overlap(cell, tmp_path):
    _, arrays, attributes, _ = projected(tmp_path / "p.h5", values(0.0, 0.25))
    kin, ovlp = kinetic(cell, arrays)
    # overlaps of the potential are sums on its grid
    np.testing.assert_allclose(arrays["fock"], kin + 0.25 * ovlp, atol=2e-4)
    np.testing.assert_allclose(arrays["overlap"], ovlp, atol=1e-8)
    assert attributes["pseudo"] == "gth-pade"
    assert attributes["kmesh"].tolist() == list(KMESH)
    assert (attributes["file"], attributes["frame"]) == ("h2.xyz", 3)


def test_a_potential_is_its_integral_over_the_grid(cell, tmp_path):
    field = values()
    _, arrays, _, _ = projected(tmp_path / "p.h5", field)
    kpts = cell.get_abs_kpts(arrays["kpts"])
    ao = numint.KNumInt(kpts).eval_ao(cell, cell.get_uniform_grids(MESH), kpts)
    weight = cell.vol / field.size
    potential = [weight * a.conj().T @ (field.reshape(-1, 1) * a) for a in ao]
    kin, _ = kinetic(cell, arrays)
    np.testing.assert_allclose(arrays["fock"], kin + np.array(potential), atol=1e-6)


def test_a_shifted_potential_has_shifted_levels_and_the_same_density(tmp_path):
    one = projected(tmp_path / "a.h5", values())
    other = projected(tmp_path / "b.h5", values() + 0.5)
    np.testing.assert_allclose(other[1]["mo_energy"], one[1]["mo_energy"] + 0.5, atol=1e-3)
    np.testing.assert_allclose(other[1]["density"], one[1]["density"], atol=1e-3)
    np.testing.assert_array_equal(other[1]["mo_occ"], one[1]["mo_occ"])
    assert other[0]["fermi"] == pytest.approx(one[0]["fermi"] + 0.5, abs=1e-3)
    assert other[0]["gap"] == pytest.approx(one[0]["gap"], abs=1e-3)
    assert other[0]["bands"]["gap"] == pytest.approx(one[0]["bands"]["gap"], abs=1e-3)


def test_the_summary_is_what_was_done(tmp_path):
    out = tmp_path / "p.h5"
    summary, arrays, _, told = projected(out, values())
    assert json.loads(out.with_suffix(".json").read_text()) == json.loads(json.dumps(summary))
    expected = {
        "n_electrons": 2, "n_functions": 2, "charge": 0, "basis": "gth-szv", "pseudo": "gth-pade",
        "kmesh": [1, 1, 3], "block_mesh": [3, 3, 3], "fft_mesh": list(MESH), "smearing": 0.0,
        "structure": {"file": "h2.xyz", "frame": 3}, "potential": "v.npy",
        "magnetic_moment": None, "written": str(out), "potential_grid": list(MESH),
    }  # fmt: skip
    assert {name: summary[name] for name in expected} == expected
    assert summary["gap"] == pytest.approx(summary["lumo"] - summary["homo"])
    assert summary["homo"] == pytest.approx(arrays["mo_energy"][:, 0].max())
    assert [name for name, _ in summary["bands"]["labels"]] == ["G", "X"]
    assert summary["bands"]["points"] == len(arrays["band_kpts"]) == 5
    electrons = np.einsum("k,kij,kji->", arrays["kweights"], arrays["density"], arrays["overlap"])
    assert electrons == pytest.approx(2.0, abs=1e-9)
    words = [text for text in told.messages if text.startswith("projecting at")]
    assert words[0] == "projecting at 2 k-points (mesh 1, 1, 3), 2 functions"
    assert words[1].endswith("(mesh 3, 3, 3 for the blocks), 2 functions")


def test_blocks_give_the_matrices_back(tmp_path):
    out = tmp_path / "p.h5"
    summary, arrays, _, _ = projected(out, values(), block_mesh=(5, 5, 5))
    found = LabelsSource(out, lambda *_: ()).matrices(0)
    at = torch.from_numpy(arrays["kpts"])
    assert summary["block_error"] < 0.05
    np.testing.assert_allclose(found.fock.at_k(at), arrays["fock"], atol=0.05)
    assert found.facts["fermi"] == summary["fermi"], "of the mesh that was asked for"


def test_without_a_mesh_no_dense_matrices_are_written(tmp_path):
    summary, arrays, _, told = projected(tmp_path / "p.h5", values(), kmesh=None)
    assert summary["kmesh"] == [3, 3, 3]
    assert not {"fock", "density", "overlap"} & arrays.keys()
    assert "band_energies" in arrays
    assert len([t for t in told.messages if t.startswith("projecting at")]) == 1


@pytest.mark.parametrize(
    ("spin", "fix_spin", "moment"), [(0, False, 2.0), (2, False, 2.0), (0, True, 0.0)]
)
def test_two_potentials_have_a_moment(tmp_path, spin, fix_spin, moment):
    """That of spin up lies far below: it takes both electrons, unless the spin is asked for."""
    summary, arrays, _, _ = projected(
        tmp_path / "p.h5", values() - 2.0, values(), spin=spin, fix_spin=fix_spin
    )
    assert summary["magnetic_moment"] == pytest.approx(moment, abs=1e-9)
    assert arrays["fock"].shape == (2, 2, 2, 2)
    assert arrays["mo_occ"].shape == (2, 2, 2)


def test_smearing_fills_in_part(tmp_path):
    _, arrays, _, _ = projected(tmp_path / "p.h5", values(), smearing=0.5)
    occ = arrays["mo_occ"]
    assert 0 < occ.min() < occ.max() < 2
    weights = arrays["kweights"][:, None]
    assert (weights * occ).sum() == pytest.approx(2.0, abs=1e-9)


def test_coarse_and_steep_grids_are_said(tmp_path):
    rough = np.random.default_rng(1).normal(size=MESH)
    _, _, _, told = projected(tmp_path / "p.h5", rough, block_mesh=(2, 2, 2))
    texts = " | ".join(told.warnings)
    assert "of the potential is in the shortest waves of its grid (15, 15, 16)" in texts
    assert "write it on a finer one" in texts
    assert "levels from the blocks are off by up to" in texts
    assert "use a larger block_mesh" in texts


@pytest.mark.parametrize(
    ("energies", "occ", "expected"),
    [
        ([[[-1.0, 0.5]]], [[[2.0, 0.0]]], (-1.0, 0.5)),
        ([[[-1.0, 0.5]], [[-0.8, 0.7]]], [[[1.0, 0.0]], [[1.0, 0.0]]], (-0.8, 0.5)),
        ([[[-1.0, 0.5]]], [[[2.0, 1.0]]], (0.5, np.inf)),
        ([[[-1.0, 0.5]]], [[[0.5, 0.0]]], (-np.inf, -1.0)),
    ],
    ids=["closed", "open", "full", "empty"],
)
def test_levels_with_and_without_half_of_their_electrons(energies, occ, expected):
    found = _edges(*(torch.tensor(x, dtype=torch.float64) for x in (energies, occ)))
    assert found == expected
