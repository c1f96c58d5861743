import dataclasses

import numpy as np
import pytest
import torch
from pyscf import dft, gto, lib
from pyscf.tools import molden

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.method import Method
from deeph_zero.model import Model
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict import meanfield
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.testing import WATER

NUMBERS = np.array([8, 1, 1])
WATER_COORDS = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])
PEROXYL = np.array([[0, 0, 0.1], [0.1, 2.5, 0.2], [1.5, 3.2, 0.4]])  # HO2: no degenerate state


def _model(method):
    mol = gto.M(atom=WATER, basis=method.basis, verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Model(FockNetwork(default_spec(basis_layout([mol]), "tiny")).eval(), method)


@pytest.fixture(scope="module")
def model():
    return _model(Method(basis="sto-3g", auxbasis="weigend", grid_level=0))


def _water(coords=WATER_COORDS):
    return Molecule(numbers=NUMBERS, coords=coords)


def _peroxyl(coords=PEROXYL):
    return Molecule(numbers=np.array([8, 8, 1]), coords=coords, spin=1)


@pytest.mark.parametrize(
    ("xc", "density_fit", "make", "coords", "atom"),
    [
        ("pbe", True, _water, WATER_COORDS, 1),
        ("pbe0", True, _peroxyl, PEROXYL, 2),
        ("r2scan", True, _water, WATER_COORDS, 2),
        ("camb3lyp", False, _water, WATER_COORDS, 1),
        ("hf", True, _water, WATER_COORDS, 1),
    ],
)
def test_forces_are_the_derivative_of_the_energy_they_come_with(
    xc, density_fit, make, coords, atom
):
    method = Method(basis="sto-3g", xc=xc, density_fit=density_fit, grid_level=0)
    model = _model(method)
    forces = model.predict(make(), refine=1e-8, forces=True).forces
    along = np.array([0.3, -0.8, 0.5])
    energies = []
    for step in (-2, -1, 1, 2):
        moved = coords.copy()
        moved[atom] += 2e-3 * step * along
        energies.append(model.predict(make(moved), refine=1e-8, coupled=False).refined.energy)
    slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * 2e-3)
    assert -forces[atom] @ along == pytest.approx(slope, abs=1e-6)


def test_forces_refine_by_themselves(model):
    result = model.predict(_water(), forces=True)
    assert result.refined.converged
    assert result.refined.gradient_norm < 1e-6
    tight = model.predict(_water(), refine=1e-8, forces=True)
    assert np.abs(result.forces - tight.forces).max() < 1e-6


def test_an_unconverged_refinement_gives_no_forces(model):
    result = model.predict(_water(), refine=1e-6)
    short = dataclasses.replace(result.refined, converged=False)
    with pytest.raises(ComputationError, match="did not get there"):
        meanfield.forces(dataclasses.replace(result, refined=short), model.method)
    with pytest.raises(InputError, match="refined"):
        meanfield.forces(model.predict(_water()), model.method)


@pytest.mark.parametrize("make", [_water, _peroxyl])
def test_the_refined_object_is_what_pyscf_would_have_converged_to(model, make):
    result, mf = model.predict_mean_field(make(), refine=1e-7)
    reference = (dft.RKS if make is _water else dft.UKS)(mf.mol, xc="pbe")
    reference = reference.density_fit(auxbasis="weigend")
    reference.grids.level = 0
    reference.conv_tol = 1e-11
    reference.kernel()
    assert mf.converged
    assert mf.e_tot == pytest.approx(reference.e_tot, abs=1e-8)
    assert mf.energy_tot(mf.make_rdm1()) == pytest.approx(result.refined.energy, abs=1e-9)
    assert np.linalg.norm(mf.get_grad(mf.mo_coeff, mf.mo_occ)) < 1e-6


def test_an_unknown_keyword_is_named_with_those_there_are(model):
    with pytest.raises(InputError, match=r"unknown keyword refin, .*did you mean refine") as error:
        model.predict_mean_field(_water(), refin=1e-7)
    assert "compare_start" in str(error.value)


def test_there_are_no_orbitals_without_a_build(model):
    with pytest.raises(InputError, match="certificate=False: orbitals need a Fock build; leave it"):
        model.predict_mean_field(_water(), certificate=False)


def test_pyscf_starts_from_the_checkpoint(model, tmp_path):
    result, mf = model.predict_mean_field(_water(), refine=1e-7)
    path = tmp_path / "water.chk"
    meanfield.write_chkfile(mf, path)
    assert lib.chkfile.load(str(path), "scf/e_tot") == result.refined.energy
    again = dft.RKS(lib.chkfile.load_mol(str(path)), xc="pbe").density_fit(auxbasis="weigend")
    again.grids.level = 0
    again.chkfile = str(path)
    again.init_guess = "chkfile"
    again.conv_tol_grad = 1e-5
    again.kernel()
    assert again.converged
    assert again.cycles <= 2
    assert [p.name for p in tmp_path.iterdir()] == ["water.chk"]


def test_molden_holds_the_orbitals(model, tmp_path):
    _, mf = model.predict_mean_field(_peroxyl())
    path = tmp_path / "ho2.molden"
    meanfield.write_molden(mf, path)
    mol, energy, coeff, occ, _, _ = molden.load(str(path))
    assert np.sum(occ) == pytest.approx(mol.nelectron)
    dm = sum((c * n) @ c.T for c, n in zip(coeff, occ, strict=True))
    ovlp = mol.intor("int1e_ovlp")
    assert np.trace(dm @ ovlp) == pytest.approx(mol.nelectron, abs=1e-5)
    assert np.allclose(energy[0], mf.mo_energy[0], atol=1e-5)


def _read_cube(path):
    """Points (bohr) and values."""
    lines = path.read_text().splitlines()
    natm, *origin = lines[2].split()
    counts = [int(line.split()[0]) for line in lines[3:6]]
    axes = np.array([[float(x) for x in line.split()[1:]] for line in lines[3:6]])
    index = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3)
    head = 6 + abs(int(natm)) + (int(natm) < 0)
    values = np.array([float(x) for line in lines[head:] for x in line.split()])
    return np.array([float(x) for x in origin[:3]]) + index @ axes, values


@pytest.mark.parametrize("what", ["density", "spin-density"])
def test_density_cubes_hold_the_density(model, tmp_path, what):
    _, mf = model.predict_mean_field(_peroxyl())
    path = tmp_path / "out.cube"
    meanfield.write_cube(mf, what, path, spacing=0.5)
    points, values = _read_cube(path)
    alpha, beta = mf.make_rdm1()
    ao = mf.mol.eval_gto("GTOval", points)
    dm = alpha + beta if what == "density" else alpha - beta
    expected = np.einsum("pi,ij,pj->p", ao, dm, ao)
    assert np.abs(values - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("what", "column"), [("homo", 4), ("lumo", 5)])
def test_orbital_cubes_hold_the_orbital(model, tmp_path, what, column):
    _, mf = model.predict_mean_field(_water())
    path = tmp_path / "out.cube"
    meanfield.write_cube(mf, what, path, spacing=0.5)
    points, values = _read_cube(path)
    expected = mf.mol.eval_gto("GTOval", points) @ mf.mo_coeff[:, column]
    assert np.abs(values - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_missing_cube_is_refused_and_leaves_nothing(model, tmp_path):
    _, mf = model.predict_mean_field(_water())
    with pytest.raises(InputError, match="open shell"):
        meanfield.write_cube(mf, "spin-density", tmp_path / "no.cube")
    assert not list(tmp_path.iterdir())


def test_a_bad_start_is_replaced_by_the_standard_one(model, monkeypatch):
    good = model.predict(_water(), refine=1e-6, compare_start=True)
    assert not good.standard_start
    assert good.standard_iterations >= good.refined.iterations - 1
    # a network that is far off: its occupied orbitals are the wrong ones
    shift = torch.zeros(7, 7, dtype=torch.float64)
    shift[0, 0] = 60.0
    monkeypatch.setattr(
        "deeph_zero.prepared.molecule.Prepared.predicted", lambda self, *_: self.fock0 + shift
    )
    bad = model.predict(_water(), refine=1e-6, compare_start=True)
    assert bad.standard_start
    assert bad.refined.converged
    assert bad.refined.iterations == bad.standard_iterations
    assert bad.refined.energy == pytest.approx(good.refined.energy, abs=1e-9)


def test_forces_hold_with_effective_core_potentials():
    def energy(at):
        mol = gto.M(
            atom=[("Cl", (0, 0, 0)), ("H", (0.1, 0.2, at))], unit="bohr", basis="lanl2dz",
            ecp={"Cl": "lanl2dz"}, verbose=0,
        )  # fmt: skip
        mf = dft.RKS(mol, xc="lda,vwn")
        mf.grids.level = 0
        mf.conv_tol = 1e-12
        return mf, mf.kernel()

    step = 1e-3
    slope = (energy(2.5 + step)[1] - energy(2.5 - step)[1]) / (2 * step)
    assert meanfield.forces_of(energy(2.5)[0])[1, 2] == pytest.approx(-slope, abs=2e-6)
