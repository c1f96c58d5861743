"""Extra geometries: their spread, reproducibility, and the model Hessian behind thermal ones."""

import dataclasses

import numpy as np
import pytest
import torch
from pyscf import gto, scf
from pyscf.hessian import thermo

from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import WATER
from deeph_zero.train.sampling import (
    DALTON,
    KELVIN_IN_HARTREE,
    SOFTEST,
    displaced,
    lindh_hessian,
    thermal_modes,
)
from deeph_zero.units import BOHR_IN_ANGSTROM

SHAPES = {
    "water": (WATER, 3),
    "peroxide": ("O 0 0.7 0; O 0.1 -0.7 0; H 0.8 0.9 0.5; H -0.7 -1 0.4", 6),
    "linear": ("H 0 0 -1.07; C 0 0 0; N 0 0 1.15", 4),
    "heavy": ("Br 0 0 0; H 0.2 0 1.4", 1),
    "atom": ("Ar 0 0 0", 0),
}


def molecule(name):
    mol = gto.M(atom=SHAPES[name][0], basis="sto-3g", verbose=0)
    return Molecule(numbers=mol.atom_charges(), coords=mol.atom_coords())


def hessian(one):
    return lindh_hessian(one.numbers, torch.from_numpy(one.coords)).numpy()


def test_one_stretch_is_the_papers_number():
    # H2 at 1.4 bohr: 0.45 exp(1.35² - 1.4²)
    coords = torch.tensor([[0.0, 0, 0], [0, 0, 1.4]], dtype=torch.float64)
    found = lindh_hessian(np.array([1, 1]), coords)
    want = torch.zeros(6, 6, dtype=torch.float64)
    k = 0.45 * np.exp(1.35**2 - 1.4**2)
    want[2, 2] = want[5, 5] = k
    want[2, 5] = want[5, 2] = -k
    torch.testing.assert_close(found, want)


def test_water_is_its_springs():
    """The Hessian of ½ Σ k (q - q₀)², by finite differences of the internal coordinates."""
    one = molecule("water")
    x0 = one.coords

    def rho(i, j, decay, reference):
        return np.exp(decay * (reference**2 - np.sum((x0[i] - x0[j]) ** 2)))

    oh1, oh2 = (rho(0, k, 0.3949, 2.10) for k in (1, 2))
    hh = rho(1, 2, 1.0, 1.35)
    pairs = [(0, 1, oh1), (0, 2, oh2), (1, 2, hh)]
    bends = [(1, 0, 2, oh1 * oh2), (0, 1, 2, oh1 * hh), (0, 2, 1, oh2 * hh)]

    def internals(x):
        stretches = [np.linalg.norm(x[i] - x[j]) for i, j, _ in pairs]
        angles = []
        for i, j, k, _ in bends:
            u, v = x[i] - x[j], x[k] - x[j]
            angles.append(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))
        return np.array(stretches + angles)

    k = np.array([0.45 * p[-1] for p in pairs] + [0.15 * b[-1] for b in bends])
    slopes = np.empty((6, 9))
    for n in range(9):
        step = np.zeros(9)
        step[n] = 1e-5
        up, down = (internals(x0 + s * step.reshape(3, 3)) for s in (1, -1))
        slopes[:, n] = (up - down) / 2e-5
    np.testing.assert_allclose(hessian(one), slopes.T @ (k[:, None] * slopes), atol=1e-8)


@pytest.mark.parametrize("name", SHAPES)
def test_rigid_motions_cost_nothing_and_every_vibration_something(name):
    one = molecule(name)
    values = np.linalg.eigvalsh(hessian(one))
    n_vibrations = SHAPES[name][1]
    assert np.abs(values[: len(values) - n_vibrations]).max() < 1e-10
    assert (values[len(values) - n_vibrations :] > 1e-4).all()
    modes = thermal_modes(one, 300.0)
    assert modes.shape == (n_vibrations, values.size)
    mol = gto.M(atom=SHAPES[name][0], basis="sto-3g", verbose=0)
    mass = DALTON * mol.atom_mass_list(isotope_avg=True)
    weighted = modes * np.repeat(mass, 3)
    centred = one.coords - mass @ one.coords / mass.sum()
    for axis in np.eye(3):
        rigid = [np.tile(axis, (len(mass), 1)), np.cross(axis, centred)]
        for motion in rigid:
            assert np.abs(weighted @ motion.reshape(-1)).max(initial=0) < 1e-8


def test_the_hessian_turns_with_the_molecule():
    one = molecule("peroxide")
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = dataclasses.replace(one, coords=one.coords @ q.T)
    big = np.kron(np.eye(len(one.numbers)), q)
    np.testing.assert_allclose(hessian(turned), big @ hessian(one) @ big.T, atol=1e-10)


@pytest.mark.reference
def test_frequencies_are_those_of_a_molecule():
    """Within a factor of 2.5 of Hartree-Fock: the model's claim, and enough for sampling."""
    mol = gto.M(atom=SHAPES["peroxide"][0], basis="sto-3g", verbose=0)
    mf = scf.RHF(mol).run()
    want = np.real(thermo.harmonic_analysis(mol, mf.Hessian().kernel())["freq_wavenumber"])
    modes = thermal_modes(molecule("peroxide"), 0.0)
    # at 0 K the squared mass-weighted amplitude is 1 / 2w
    mass = DALTON * np.repeat(mol.atom_mass_list(isotope_avg=True), 3)
    found = np.sort(219474.63 / (2 * (modes**2 @ mass)))
    real = np.sort(want[want > 1000])[-4:]
    ratio = found[-4:] / real
    assert ((ratio > 0.4) & (ratio < 2.5)).all()


def test_amplitudes_are_quantum_and_classical_where_they_should_be():
    one = molecule("heavy")
    cold, warm, hot = (np.square(thermal_modes(one, t)).sum() for t in (0.0, 300.0, 1e5))
    assert warm == pytest.approx(cold, rel=1e-3), "zero-point motion of a stiff bond"
    # classically ⟨x²⟩ = k_B T / k, k the force constant along the bond, shared by both ends
    k = np.linalg.eigvalsh(hessian(one))[-1] / 2
    mass = DALTON * np.array([79.904, 1.008])
    share = (mass[1] ** 2 + mass[0] ** 2) / mass.sum() ** 2
    assert hot == pytest.approx(KELVIN_IN_HARTREE * 1e5 / k * share, rel=2e-2)


def settings(**values):
    return FitConfig.parse(values)


@pytest.mark.parametrize("sampling", ["displace", "normal-modes"])
def test_samples_have_the_spread_asked_for_and_repeat(sampling):
    ones = [molecule("water"), dataclasses.replace(molecule("water"), charge=1, spin=1)]
    config = settings(samples=400, displace=0.03, sampling=sampling, temperature=500)
    copies = displaced(ones, config, (7,))
    assert len(copies) == 800
    assert [m.charge for m in copies] == [0] * 400 + [1] * 400
    shifts = np.array([m.coords for m in copies[:400]]) - ones[0].coords
    if sampling == "displace":
        assert shifts.std() * BOHR_IN_ANGSTROM == pytest.approx(0.03, rel=0.05)
    else:
        want = np.sqrt(np.square(thermal_modes(ones[0], 500.0)).sum(0))
        np.testing.assert_allclose(shifts.reshape(400, 9).std(0), want, rtol=0.15, atol=1e-3)
    again, other = displaced(ones, config, (7,)), displaced(ones, config, (7, 1))
    assert all((a.coords == b.coords).all() for a, b in zip(copies, again, strict=True))
    assert not any((a.coords == b.coords).all() for a, b in zip(copies, other, strict=True))
    assert displaced(ones, settings(), (7,)) == []


def test_soft_modes_do_not_tear_a_molecule_apart():
    far = Molecule(numbers=np.array([18, 18]), coords=np.array([[0, 0, 0], [0, 0, 30.0]]))
    modes = thermal_modes(far, 300.0)
    mass = DALTON * 39.948
    assert np.square(modes).sum() * mass == pytest.approx(
        KELVIN_IN_HARTREE * 300 / SOFTEST**2, rel=0.05
    )
