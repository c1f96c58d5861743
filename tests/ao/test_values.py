"""AO values in torch against libcint, their derivatives, and the reach of shells."""

import numpy as np
import pytest
import torch
from pyscf import gto
from pyscf.dft import numint

from deeph_zero.ao.extent import shell_extents, significant_shells
from deeph_zero.ao.values import AOBasis, Shell, ao_values
from deeph_zero.errors import InputError
from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.testing import WATER

CASES = {
    "f": {"atom": WATER, "basis": "def2-tzvp"},
    "g": {"atom": WATER, "basis": "cc-pvqz"},
    "h": {"atom": WATER, "basis": "cc-pv5z"},
    "general contraction": {"atom": "Cl 0 0 .1; H .3 .2 1.4", "basis": "cc-pvtz"},
    "cartesian": {"atom": "S 0 0 .1; H .1 1 .9; H .2 -1 .8", "basis": "6-31g*", "cart": True},
    "cartesian g": {"atom": WATER, "basis": "cc-pvqz", "cart": True},
    "ecp": {
        "atom": "Br 0 0 .1; I .3 .2 2.5",
        "basis": "def2-tzvp",
        "ecp": {"I": "def2-tzvp"},
    },
    "ghost": {"atom": WATER + "; ghost-N .4 2 2.1", "basis": "def2-tzvp"},
}


@pytest.fixture(scope="module", params=CASES)
def mol(request):
    return gto.M(verbose=0, **CASES[request.param])


def coordinates(mol):
    return torch.from_numpy(mol.atom_coords())


def scattered_points(mol, count=150, seed=3):
    """On the nuclei, close to them (1e-4 bohr) and up to tens of bohr away."""
    rng = np.random.default_rng(seed)
    centres = mol.atom_coords()[rng.integers(0, mol.natm, count)]
    distance = 10.0 ** rng.uniform(-4.0, 1.3, (count, 1))
    return np.concatenate([centres + distance * rng.normal(size=(count, 3)), mol.atom_coords()])


@pytest.mark.parametrize("deriv", [0, 1, 2])
def test_values_and_derivatives_equal_libcint(mol, deriv):
    points = scattered_points(mol)
    ours = ao_values(ao_basis(mol), coordinates(mol), torch.from_numpy(points), deriv).numpy()
    reference = numint.eval_ao(mol, points, deriv=deriv).reshape(ours.shape)
    assert ours.shape == ((1, 4, 10)[deriv], len(points), mol.nao_nr())
    for ours_k, reference_k in zip(ours, reference, strict=True):
        assert np.abs(ours_k - reference_k).max() <= 1e-12 * np.abs(reference_k).max()


def test_every_case_tests_what_it_says():
    largest_l = {"f": 3, "g": 4, "h": 5, "cartesian g": 4}
    for name, l in largest_l.items():
        mol = gto.M(verbose=0, **CASES[name])
        assert max(mol.bas_angular(k) for k in range(mol.nbas)) == l
    contracted = gto.M(verbose=0, **CASES["general contraction"])
    assert max(contracted.bas_nctr(k) for k in range(contracted.nbas)) > 1


def test_gradients_flow_to_centres_and_points(rng):
    mol = gto.M(atom="O 0 0 .1; H .1 .7 .6", basis="def2-svp", charge=-1, verbose=0)
    basis = ao_basis(mol)
    centres = coordinates(mol).requires_grad_()
    points = torch.randn(1, 3, generator=rng, dtype=torch.float64).requires_grad_()

    def values(c, p):
        return ao_values(basis, c, p, 1)

    assert torch.autograd.gradcheck(values, (centres, points))
    # the derivative with respect to the point is the one that ao_values itself gives
    slope = torch.autograd.grad(ao_values(basis, centres, points).sum(), points)[0]
    expected = ao_values(basis, centres, points, 1)[1:].sum(2).T
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)


def test_selected_shells_keep_their_values_and_numbers(mol):
    basis = ao_basis(mol)
    chosen = torch.arange(basis.nshell) % 3 != 1
    part = basis.select(chosen)
    points = torch.from_numpy(scattered_points(mol, 20))
    full = ao_values(basis, coordinates(mol), points, 1)
    assert torch.equal(ao_values(part, coordinates(mol), points, 1), full[:, :, part.index])
    loc = mol.ao_loc_nr()
    kept = [i for k in range(mol.nbas) if chosen[k] for i in range(loc[k], loc[k + 1])]
    assert part.index.tolist() == kept
    nothing = basis.select(torch.zeros_like(chosen))
    assert ao_values(nothing, coordinates(mol), points, 1).shape == (4, len(points), 0)


@pytest.mark.parametrize("deriv", [0, 1, 2])
def test_shells_end_at_their_extent_and_not_long_before(mol, deriv):
    cutoff = 1e-13
    basis = ao_basis(mol)
    extents = shell_extents(basis, cutoff, deriv)
    directions = np.random.default_rng(1).normal(size=(60, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    loc = mol.ao_loc_nr()
    centres = mol.atom_coords()
    for k in range(mol.nbas):
        centre, radius = centres[mol.bas_atom(k)], float(extents[k])
        scales = {s: s * radius for s in (0.9, 1.0 + 1e-9, 1.1, 2.0)}
        largest = {}
        for scale, r in scales.items():
            ao = numint.eval_ao(mol, centre + r * directions, deriv=deriv)
            ao = ao.reshape(-1, len(directions), mol.nao_nr())
            largest[scale] = np.abs(ao[:, :, loc[k] : loc[k + 1]]).max()
        assert largest[0.9] > cutoff
        assert max(largest[s] for s in scales if s > 1) <= cutoff


def test_only_shells_below_the_cutoff_are_left_out(rng):
    atoms = [("C", (0.3 * i, -0.2 * i, 2.4 * i)) for i in range(14)]
    mol = gto.M(atom=atoms, basis="def2-svp", verbose=0)
    basis, centres = ao_basis(mol), coordinates(mol)
    extents = shell_extents(basis, 1e-13)
    shape = torch.rand(200, 3, generator=rng, dtype=torch.float64)
    for first in (0, 7, 13):
        points = centres[first] + 3.0 * (shape - 0.5)
        chosen = significant_shells(basis, extents, centres, points)
        assert 0.1 < chosen.double().mean() < 0.9
        ao = numint.eval_ao(mol, points.numpy(), deriv=1)
        left_out = np.delete(ao, basis.select(chosen).index.numpy(), axis=2)
        assert np.abs(left_out).max() <= 1e-13


def test_significant_shells_do_not_grow_with_the_molecule(rng):
    counts = []
    box = torch.rand(50, 3, generator=rng, dtype=torch.float64)
    for n in (20, 60):
        atoms = [("He", (0.0, 0.1 * i, 3.0 * i)) for i in range(n)]
        mol = gto.M(atom=atoms, basis="def2-svp", verbose=0)
        basis, centres = ao_basis(mol), coordinates(mol)
        points = centres[n // 2] + box
        extents = shell_extents(basis, 1e-13)
        counts.append(int(significant_shells(basis, extents, centres, points).sum()))
    assert counts[0] == counts[1] < 60


def test_plain_shells_need_no_program():
    basis = AOBasis.from_shells([Shell(atom=0, l=0, exponents=[0.5], coefficients=[[2.0]])])
    points = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    value = ao_values(basis, torch.zeros(1, 3, dtype=torch.float64), points)
    assert value.item() == pytest.approx(2.0 * np.exp(-0.5) / np.sqrt(4 * np.pi), rel=1e-15)


def test_spinor_shells_are_refused(water):
    mol = water.copy()
    mol._bas = mol._bas.copy()
    mol._bas[1, gto.KAPPA_OF] = -1
    with pytest.raises(InputError, match="kappa, got -1 in shell 1"):
        ao_basis(mol)
