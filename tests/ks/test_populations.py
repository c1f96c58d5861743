import numpy as np
import pytest
import torch
from pyscf import gto, lo, scf

from deeph_zero.ks.populations import populations
from deeph_zero.testing import WATER

HYDROXYL = "O 0 0 0; H 0.1 0.2 0.94"


def _of(mf):
    mol = mf.mol
    atoms = [label[0] for label in mol.ao_labels(fmt=None)]
    dm, ovlp = (torch.from_numpy(np.array(a)) for a in (mf.make_rdm1(), mf.get_ovlp()))
    return populations(dm.reshape(-1, mol.nao, mol.nao), ovlp, atoms, mol.atom_charges().tolist())


@pytest.fixture(scope="module")
def water():
    return scf.RHF(gto.M(atom=WATER, basis="6-31g", verbose=0)).run()


@pytest.fixture(scope="module")
def hydroxyl():
    return scf.UHF(gto.M(atom=HYDROXYL, basis="6-31g", spin=1, verbose=0)).run()


@pytest.mark.parametrize("name", ["water", "hydroxyl"])
def test_charges_are_those_of_pyscf(name, request):
    mf = request.getfixturevalue(name)
    found = _of(mf)
    _, mulliken = mf.mulliken_pop(verbose=0)
    assert np.allclose(found.mulliken_charges, mulliken, atol=1e-12)
    # Löwdin's are Mulliken's in symmetrically orthogonalised AOs
    inverse = np.linalg.inv(lo.orth.lowdin(mf.get_ovlp()))
    dm = mf.make_rdm1()
    total = dm if dm.ndim == 2 else dm.sum(0)
    gross = np.diag(inverse @ total @ inverse.T)
    atoms = np.array([label[0] for label in mf.mol.ao_labels(fmt=None)])
    expected = [z - gross[atoms == a].sum() for a, z in enumerate(mf.mol.atom_charges())]
    assert np.allclose(found.lowdin_charges, expected, atol=1e-12)


def test_spin_populations_are_those_of_pyscf(hydroxyl):
    dm, ovlp = hydroxyl.make_rdm1(), hydroxyl.get_ovlp()
    gross = np.einsum("ij,ji->i", dm[0] - dm[1], ovlp)
    atoms = np.array([label[0] for label in hydroxyl.mol.ao_labels(fmt=None)])
    found = _of(hydroxyl).spin_populations
    assert np.allclose(found, [gross[atoms == a].sum() for a in range(2)], atol=1e-12)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-10)


def test_a_closed_shell_has_no_spin_populations(water):
    assert _of(water).spin_populations is None


@pytest.mark.parametrize(
    ("atom", "order"), [("H 0 0 0; H 0 0 0.75", 1.0), ("N 0 0 0; N 0 0 1.1", 3.0)]
)
def test_bond_orders_of_minimal_bases_are_the_textbook_ones(atom, order):
    mf = scf.RHF(gto.M(atom=atom, basis="sto-3g", verbose=0)).run()
    assert float(_of(mf).bond_orders[0, 1]) == pytest.approx(order, abs=1e-9)


def test_bond_orders_and_valences_fulfil_their_sum_rule(water):
    """(P S)² = 2 P S for a closed shell: bonds and the atoms' own parts add up to 2 N."""
    mol, dm, ovlp = water.mol, water.make_rdm1(), water.get_ovlp()
    ps = dm @ ovlp
    atoms = np.array([label[0] for label in mol.ao_labels(fmt=None)])
    own = sum((ps * ps.T)[np.ix_(atoms == a, atoms == a)].sum() for a in range(mol.natm))
    bonds = _of(water).bond_orders
    assert float(bonds.sum()) + own == pytest.approx(2 * mol.nelectron, abs=1e-8)
    assert torch.allclose(bonds, bonds.mT, atol=1e-12)
    assert float(bonds.diagonal().abs().max()) == 0.0


def test_the_open_shell_formula_gives_the_closed_shell_one_for_equal_spins(water):
    mol = water.mol
    atoms = [label[0] for label in mol.ao_labels(fmt=None)]
    dm, ovlp = (torch.from_numpy(np.array(a)) for a in (water.make_rdm1(), water.get_ovlp()))
    charges = mol.atom_charges().tolist()
    closed = populations(dm[None], ovlp, atoms, charges)
    opened = populations(torch.stack([dm, dm]) / 2, ovlp, atoms, charges)
    assert torch.allclose(closed.bond_orders, opened.bond_orders, atol=1e-12)
    assert torch.allclose(closed.lowdin_charges, opened.lowdin_charges, atol=1e-12)
