"""Superposed free atoms at any points, against transforms of the cell and their own formulas."""

import numpy as np
import pytest
import torch
from pyscf import gto as molecular
from pyscf.scf import atom_hf
from scipy.special import gamma

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.integrals.libxc import describe, make_functional
from deeph_zero.integrals.periodic.guess import free_atoms, superposed_density
from deeph_zero.integrals.periodic.image_atoms import Images
from deeph_zero.integrals.periodic.real_space import boxes
from deeph_zero.integrals.periodic.superposition import SuperposedAtoms, possible_kinetic


@pytest.mark.parametrize("dimension", [2, 3])
def test_superposed_atoms_are_those_of_the_whole_cell(dimension, crystal):
    """By transforms on a fine mesh; of a layer too, where the potential is zero in the vacuum."""
    shape = (21, 21, 91) if dimension == 2 else (23, 23, 23)
    lattice = [[2.7, 0, 0], [0.3, 2.6, 0], [0, 0, 12.0]] if dimension == 2 else [
        [0, 2.03, 2.03], [2.03, 0, 2.0], [2.03, 2.03, 0]
    ]  # fmt: skip
    cell = crystal("aluminium", a=lattice, mesh=shape, precision=1e-9, dimension=dimension, spin=1)
    ks = dz.KohnSham.from_pyscf(cell, xc="pbe", smearing=0.01)
    whole, density = ks.starting_potential(), ks.data.rho_guess()
    functional = make_functional(describe("pbe"), unrestricted=ks.unrestricted)
    shares = np.array([[2 / 3], [1 / 3]])
    atoms = SuperposedAtoms(cell, Images(cell, 1e-6), shares, functional)
    some = list(boxes(shape, cell.lattice_vectors()))[::3]
    made = [atoms.rows(box.coords, box.centre, box.radius) for box in some]
    points = np.concatenate([box.points for box in some])
    rho, rows = (torch.cat([m[x] for m in made], -1) for x in (0, 1))
    there = density[0, 0, points] > 0.005
    assert int(there.sum()) > 50
    for own, other, error in (
        (rho, density[:, :1], 2e-5),
        (rows, whole, {3: 1e-5, 2: 5e-4}[dimension]),
    ):
        torch.testing.assert_close(
            own[..., there], other[..., points][..., there], rtol=0, atol=error
        )
    assert rows.shape[1] == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kinetic_energy_of_free_atoms_is_that_of_their_orbitals(crystal):
    """On the grid as a whole, and ρ and τ at points from tables as by transforms."""
    cell = crystal("diamond", mesh=(31, 31, 31), precision=1e-9)
    shares = np.ones((1, 2))
    tau = superposed_density(cell, (31, 31, 31), shares, "kinetic")[0]
    expected = 0.0
    for _, _, coefficients, occupations in atom_hf.get_atm_nrhf(cell).values():
        atom = molecular.M(atom="C 0 0 0", basis="gth-szv", spin=2, verbose=0)
        dm = (coefficients * occupations) @ coefficients.T
        expected += 2 * float(np.einsum("ij,ji", atom.intor("int1e_kin"), dm))
    assert expected > 5
    np.testing.assert_allclose(tau.sum() * cell.vol / tau.size, expected, rtol=1e-6)
    functional = make_functional(describe("r2scan"), unrestricted=False)
    atoms = SuperposedAtoms(cell, Images(cell, 1e-6), shares, functional)
    box = list(boxes((31, 31, 31), cell.lattice_vectors()))[3]
    found, _ = atoms.density(box.coords, box.centre, box.radius)
    assert found.shape[1] == 5
    np.testing.assert_allclose(found[0, 4].numpy(), tau[box.points], atol=2e-3)


@pytest.fixture(scope="module")
def lih(crystal):
    return crystal("lih", precision=1e-9)


def superposed(cell, xc="pbe", shares=None):
    shares = np.ones((1, cell.natm)) if shares is None else np.array(shares)
    functional = make_functional(describe(xc), unrestricted=len(shares) == 2)
    return SuperposedAtoms(cell, Images(cell, 1e-6), shares, functional)


PLACES = np.array([[0.3, 0.2, 0.1], [1.4, 2.0, 1.1], [3.0, 2.5, 2.9], [0.1, 3.3, 2.4]])
CENTRE = PLACES.mean(0)
RADIUS = float(np.linalg.norm(PLACES - CENTRE, axis=1).max())


def test_the_density_is_the_sum_over_all_images(lih):
    """Gaussians of free atoms, scaled to the charge of their cores."""
    found, _ = superposed(lih).density(PLACES, CENTRE, RADIUS)
    cells = np.array(list(np.ndindex(9, 9, 9))) - 4
    wanted = np.zeros(len(PLACES))
    for a in range(lih.natm):
        terms = free_atoms(lih)[lih.atom_symbol(a)].density
        # 4 pi times the integral of r^(2l + 2) exp(-a r^2)
        electrons = sum(
            c * 2 * np.pi * gamma(l + 1.5) * alpha ** -(l + 1.5) for l, alpha, c in terms
        )
        images = lih.atom_coord(a) + cells @ lih.lattice_vectors()
        r2 = ((PLACES[:, None] - images) ** 2).sum(-1)
        own = sum(c * r2**l * np.exp(-alpha * r2) for l, alpha, c in terms)
        wanted += own.sum(1) * lih.atom_charge(a) / electrons
    np.testing.assert_allclose(found[0, 0], wanted, atol=1e-7)


def test_gradients_are_those_of_the_density(lih):
    atoms, step = superposed(lih), 1e-4
    found, _ = atoms.density(PLACES, CENTRE, RADIUS)
    assert found.shape == (1, 4, len(PLACES))
    for x in range(3):
        move = step * np.eye(3)[x]
        ends = [
            atoms.density(PLACES + s * move, CENTRE, RADIUS + step)[0][0, 0].numpy()
            for s in (1, -1)
        ]
        # the cubic pieces of the density's table, and a table of the slope of its own
        np.testing.assert_allclose(found[0, 1 + x], (ends[0] - ends[1]) / (2 * step), atol=2e-4)


def test_spins_share_every_atom(lih):
    whole, potential = superposed(lih).density(PLACES, CENTRE, RADIUS)
    halves, same = superposed(lih, shares=[[0.5, 0.5]] * 2).density(PLACES, CENTRE, RADIUS)
    torch.testing.assert_close(halves, 0.5 * whole.expand(2, -1, -1), rtol=0, atol=1e-12)
    torch.testing.assert_close(same, potential, rtol=0, atol=1e-12)
    uneven, _ = superposed(lih, shares=[[0.9, 0.2], [0.1, 0.8]]).density(PLACES, CENTRE, RADIUS)
    torch.testing.assert_close(uneven.sum(0, keepdim=True), whole, rtol=0, atol=1e-12)
    assert float((uneven[0] - uneven[1]).abs().max()) > 1e-3


@pytest.mark.parametrize(("xc", "nvar"), [("lda,vwn", 1), ("pbe", 4), ("r2scan", 5)])
def test_potentials_of_every_variable(lih, xc, nvar):
    atoms = superposed(lih, xc)
    rho, rows = atoms.rows(PLACES, CENTRE, RADIUS)
    assert (atoms.nvar, rho.shape, rows.shape) == (nvar, (1, 1, 4), (1, nvar, 4))
    variables, electrostatic = atoms.density(PLACES, CENTRE, RADIUS)
    _, wanted = make_functional(describe(xc), unrestricted=False).gradient(variables.contiguous())
    wanted[:, 0] += electrostatic
    torch.testing.assert_close(rows, wanted, rtol=0, atol=1e-12)


def test_kinetic_energy_is_never_below_von_weizsaeckers():
    rows = torch.tensor([[[0.5, 0.1], [0.2, 0.0], [-0.4, 0.0], [0.1, 0.0]]], dtype=torch.float64)
    bound = 0.21 / (8 * 0.5)
    kinetic = torch.tensor([[0.5 * bound, 0.3]], dtype=torch.float64)
    found = possible_kinetic(rows, kinetic)
    torch.testing.assert_close(found, torch.tensor([[[bound, 0.3]]], dtype=torch.float64))
    nothing = possible_kinetic(torch.zeros(1, 4, 2).double(), torch.zeros(1, 2).double())
    assert not nothing.any()


def test_atoms_without_a_core_and_charged_cells_are_refused(crystal):
    with pytest.raises(InputError, match="expected a neutral cell for superposed free atoms, got"):
        superposed(crystal("lih", charge=1, spin=1))
    with pytest.raises(InputError, match="expected GTH pseudopotentials on all atoms, got none on"):
        superposed(crystal("helium"))


def test_ghost_atoms_have_no_density(crystal):
    """Of the cell with and without them the density is one."""
    with_ghost, without = crystal("labels"), crystal("diamond")
    one, other = (superposed(c).density(PLACES, CENTRE, RADIUS)[0] for c in (with_ghost, without))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
