import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from pyscf import dft, gto

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.host.saying import say_once
from deeph_zero.method import Method
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.testing import WATER

METHOD = Method(basis="sto-3g", auxbasis="weigend", grid_level=0)


@pytest.fixture(scope="module")
def model():
    mol = gto.M(atom=WATER, basis="sto-3g", verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny")).eval()
    return dz.Model(network, METHOD)


def _water(**settings):
    return ase.Atoms("OHH", [[0, 0, 0.1], [0, 0.79, 0.6], [0.05, -0.76, 0.66]], **settings)


def _pyscf(atoms, spin=0, charge=0):
    mol = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions / units.Bohr, strict=True)),
        unit="bohr", basis="sto-3g", spin=spin, charge=charge, verbose=0,
    )  # fmt: skip
    mf = (dft.UKS if spin else dft.RKS)(mol, xc="pbe").density_fit(auxbasis="weigend")
    mf.grids.level = 0
    mf.conv_tol = 1e-11
    mf.kernel()
    return mf


def test_energy_forces_dipole_and_charges_are_pyscfs(model):
    atoms = _water()
    atoms.calc = dz.ase.DeepHZero(model)
    mf = _pyscf(atoms)
    gradient = mf.nuc_grad_method()
    gradient.grid_response = True
    forces = -gradient.kernel() * units.Hartree / units.Bohr
    assert atoms.get_potential_energy() == pytest.approx(mf.e_tot * units.Hartree, abs=1e-6)
    assert np.allclose(atoms.get_forces(), forces, atol=1e-4)
    debye = units.Debye
    assert np.allclose(atoms.get_dipole_moment() / debye, mf.dip_moment(verbose=0), atol=1e-5)
    assert np.allclose(atoms.get_charges(), mf.mulliken_pop(verbose=0)[1], atol=1e-5)
    results = atoms.calc.results
    assert 0 <= results["energy_error_estimate"] < 1e-9
    assert results["network_energy"] > results["energy"]
    assert results["network_energy_error_estimate"] > 0


def test_charge_and_spin_come_from_info_and_a_change_is_noticed(model):
    atoms = _water()
    atoms.calc = dz.ase.DeepHZero(model)
    neutral = atoms.get_potential_energy()
    atoms.info.update(charge=1, spin=1)
    cation = atoms.get_potential_energy()
    reference = _pyscf(atoms, spin=1, charge=1)
    assert cation == pytest.approx(reference.e_tot * units.Hartree, abs=1e-6)
    assert cation > neutral + 5
    assert atoms.get_magnetic_moment() == pytest.approx(1.0, abs=1e-8)
    assert atoms.get_charges().sum() == pytest.approx(1.0, abs=1e-8)


def test_without_refinement_there_is_an_energy_and_no_force(model):
    atoms = _water()
    atoms.calc = dz.ase.DeepHZero(model, refine=None)
    energy = atoms.get_potential_energy()
    reference = _pyscf(atoms).e_tot * units.Hartree
    error = energy - reference
    assert error > 0
    assert 0.2 < atoms.calc.results["energy_error_estimate"] / error < 5
    with pytest.raises(InputError, match="refine=None"):
        atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="refine=None"):
        atoms.calc.calculate(atoms, ["energy", "forces"])


def test_an_optimisation_ends_where_pyscfs_does(model):
    atoms = _water()
    atoms.calc = dz.ase.DeepHZero(model)
    assert BFGS(atoms, logfile=None).run(fmax=0.01, steps=30)
    gradient = _pyscf(atoms).nuc_grad_method()
    gradient.grid_response = True
    forces = np.linalg.norm(gradient.kernel(), axis=1) * units.Hartree / units.Bohr
    assert forces.max() < 0.011


def test_the_energy_error_of_dynamics_is_the_integrators(model):
    """Forces that are not the energy's derivative would leave a drift that no time step mends."""
    random = np.random.default_rng(1).normal(size=(3, 3))
    errors = []
    for steps in (4, 8):
        atoms = _water()
        atoms.calc = dz.ase.DeepHZero(model)
        atoms.set_velocities(random * np.sqrt(units.kB * 300 / atoms.get_masses()[:, None]))
        start = atoms.get_total_energy()
        VelocityVerlet(atoms, timestep=1.2 / steps * units.fs).run(steps)
        errors.append(atoms.get_total_energy() - start)
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.4)  # second order in the time step


@pytest.mark.parametrize("refine", [0.0, -1e-6, float("nan")])
def test_a_senseless_tolerance_is_refused(model, refine):
    with pytest.raises(InputError, match="refine"):
        dz.ase.DeepHZero(model, refine=refine)


def test_something_else_than_a_model_is_refused():
    with pytest.raises(InputError, match=r"dz\.load"):
        dz.ase.DeepHZero("run/")


def test_a_periodic_structure_is_refused(model):
    atoms = _water(cell=[9, 9, 9], pbc=True)
    atoms.calc = dz.ase.DeepHZero(model)
    with pytest.raises(InputError, match="periodic"):
        atoms.get_potential_energy()


def test_initial_moments_and_charges_are_a_spin_and_a_charge(model):
    oxygen = molecule("O2")  # with moments of 1 on each atom
    oxygen.rattle(0.01, seed=1)
    oxygen.calc = dz.ase.DeepHZero(model)
    triplet = oxygen.get_potential_energy()
    assert triplet == pytest.approx(_pyscf(oxygen, spin=2).e_tot * units.Hartree, abs=1e-6)
    assert oxygen.get_magnetic_moment() == pytest.approx(2, abs=1e-8)
    oxygen.set_initial_magnetic_moments(None)
    assert oxygen.get_potential_energy() > triplet + 1
    assert oxygen.get_magnetic_moment() == 0
    assert np.array_equal(oxygen.get_magnetic_moments(), np.zeros(2))
    atoms = _water()
    atoms.calc = oxygen.calc
    atoms.set_initial_charges([0.6, 0.2, 0.2])
    atoms.set_initial_magnetic_moments([1, 0, 0])
    cation = _pyscf(atoms, spin=1, charge=1).e_tot * units.Hartree
    assert atoms.get_potential_energy() == pytest.approx(cation, abs=1e-6)


def test_vectors_of_moments_are_said_to_be_unused(model, caplog):
    vectors = np.array([[0, 0, 1.0], [0, 0.2, 1.0], [0, 0.3, 0]])
    say_once.cache_clear()
    atoms = _water()
    atoms.calc = dz.ase.DeepHZero(model)
    plain = atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments(vectors)
    assert atoms.get_potential_energy() == pytest.approx(plain, abs=1e-9)
    assert "initial_magmoms are vectors (non-collinear) and are not used" in caplog.text


def test_charge_and_spin_of_the_calculator_count_where_the_atoms_state_none(model):
    atoms = _water()
    atoms.calc = dz.ase.DeepHZero(model, charge=1, spin=1)
    cation = atoms.get_potential_energy()
    reference = _pyscf(atoms, spin=1, charge=1).e_tot * units.Hartree
    assert cation == pytest.approx(reference, abs=1e-6)
    atoms.calc.set(charge=0, spin=0)
    neutral = atoms.get_potential_energy()
    assert neutral < cation - 5
    assert atoms.calc.set(charge=0) == {}
    assert "energy" in atoms.calc.results  # nothing changed
    atoms.calc.parameters["charge"] = 2
    assert atoms.get_potential_energy() > cation
    atoms.info["charge"] = 0
    with pytest.raises(InputError, match="charge: expected the structure's own 0, got 2 beside it"):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"xc": "pbe0"}, ["xc: ", "'pbe'", "'pbe0'"]),
        ({"basis": "def2-svp"}, ["basis: ", "'sto-3g'"]),
        ({"grid_level": 5}, ["grid_level: "]),
        ({"unrestricted": True}, ["unrestricted: "]),
        ({"charges": 1}, ["charges: ", "did you mean charge?"]),
        ({"multiplicity": 3}, ["multiplicity: ", "2S"]),
        ({"txt": "out"}, ["txt: ", "no effect"]),
        ({"label": "water"}, ["label: "]),
        ({"kpts": (1, 1, 1)}, ["kpts: "]),
        ({"spin": -1}, ["spin: ", "-1"]),
        ({"charge": 0.5}, ["charge", "0.5"]),
        ({"charge": True}, ["charge", "whole number"]),
        ({"refine": -1.0}, ["refine: ", "-1.0"]),
        ({"refine": 1e-15}, ["refine: expected 1e-11 Eh or more", "1e-15"]),
        ({"allow_close_contacts": 1}, ["allow_close_contacts: ", "True or False"]),
    ],
    ids="-".join,
)
def test_settings_without_effect_are_refused(model, settings, words):
    calculator = dz.ase.DeepHZero(model)
    for use in (
        lambda: dz.ase.DeepHZero(model, **settings),
        lambda: calculator.set(**settings),
        lambda: _with_parameters(model, settings).get_potential_energy(),
    ):
        with pytest.raises(InputError) as error:
            use()
        assert all(word in str(error.value) for word in words)
        assert len(str(error.value).splitlines()) == 1


def _with_parameters(model, settings):
    atoms = _water()
    atoms.calc = dz.ase.DeepHZero(model)
    atoms.calc.parameters.update(settings)
    return atoms


def test_properties_that_cannot_be_given_are_named(model):
    atoms = _water()
    atoms.calc = dz.ase.DeepHZero(model)
    with pytest.raises(PropertyNotImplementedError, match="stress: expected one of energy"):
        atoms.get_stress()
    with pytest.raises(InputError, match="polarizability"):
        atoms.calc.calculate(atoms, ["polarizability"])


def test_close_contacts_are_refused_unless_insisted_on(model):
    atoms = ase.Atoms("HH", [[0, 0, 0], [0, 0.1, 0.28]])
    atoms.calc = dz.ase.DeepHZero(model)
    with pytest.raises(InputError, match=r"0\.30 angstrom apart"):
        atoms.get_potential_energy()
    atoms.calc.set(allow_close_contacts=True)
    reference = _pyscf(atoms).e_tot * units.Hartree
    assert atoms.get_potential_energy() == pytest.approx(reference, abs=1e-6)
