"""Self-consistent charges and dipoles: the maths against finite differences and direct Coulomb."""

import numpy as np
import pytest
import scipy.special
import torch
from pyscf import gto

from deeph_zero.ao.rotation import ao_rotation
from deeph_zero.integrals.atomic_clouds import DIPOLE_WIDTH, SPLIT, atomic_clouds, superposed_atoms
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks import multipoles
from deeph_zero.ks.linalg.orthogonalise import orthogonaliser
from deeph_zero.ks.multipoles import screened
from deeph_zero.prepared.molecule import basis_layout

HCN = "H 0 .1 -1.05; C 0 0 0; N .05 -.1 1.17"
WATER = (("O", (0.0, 0.0, 0.2)), ("H", (0.0, 1.44, 1.10)), ("H", (0.09, -1.40, 1.15)))


def mole(atom=HCN, **settings):
    return gto.M(atom=atom, **({"basis": "6-31g", "verbose": 0} | settings))


def solved(mol, *, dipoles=True):
    s = torch.from_numpy(mol.intor("int1e_ovlp"))
    clouds = atomic_clouds(mol, dipoles=dipoles)
    h = superposed_atoms(mol)
    x = orthogonaliser(s, 1e-6)
    return h, x, clouds, screened(h, x, mol.nelec, clouds)


def some_density(mol, seed=0):
    a = np.random.default_rng(seed).normal(size=(mol.nao, mol.nao))
    return torch.from_numpy(a + a.T)


def test_what_clouds_see_is_pyscfs():
    mol = mole()
    clouds, dm = atomic_clouds(mol), some_density(mol)
    near, far = clouds.seen(dm).split([3, 12])
    k = 1
    width = float(multipoles_width(mol, k))
    cloud = gto.fakemol_for_charges(mol.atom_coords()[k : k + 1], width)
    both = gto.conc_mol(mol, cloud)
    with both.with_range_coulomb(-SPLIT):
        at = (0, mol.nbas, 0, mol.nbas, mol.nbas, mol.nbas + 1)
        three = both.intor("int3c2e", shls_slice=at)[..., 0]
    assert float(near[k] + clouds.free[k]) == pytest.approx(np.sum(three * dm.numpy()), abs=1e-9)
    # multipoles add up to those of the density
    per_atom = far.view(3, 4)
    s, r = mol.intor("int1e_ovlp"), mol.intor("int1e_r")
    charge = np.sum(s * dm.numpy()) - 14
    assert float(per_atom[:, 0].sum()) == pytest.approx(charge, abs=1e-10)
    at = torch.from_numpy(mol.atom_coords())
    centred = (per_atom[:, :1] + torch.tensor([[1.0], [6.0], [7.0]])) * at + per_atom[:, 1:]
    expected = np.einsum("xmn,mn->x", r, dm.numpy())
    np.testing.assert_allclose(centred.sum(0), expected, rtol=0, atol=1e-10)


def multipoles_width(mol, k):
    from deeph_zero.integrals.free_atoms import free_atom_clouds

    return free_atom_clouds(mol.atom_symbol(k)).width


def test_the_potential_is_the_derivative_of_what_is_seen():
    mol = mole()
    clouds = atomic_clouds(mol)
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=15))
    one, two = some_density(mol, 1), some_density(mol, 2)
    change = weights @ (clouds.seen(one) - clouds.seen(two))
    expected = (clouds.potential(weights) * (one - two)).sum()
    assert float(change) == pytest.approx(float(expected), abs=1e-9)


def test_the_field_is_that_of_pyscfs_integrals():
    mol = mole()
    clouds = atomic_clouds(mol, dipoles=False)
    charges = torch.tensor([0.3, -0.5, 0.1])
    seen = torch.cat([clouds.near @ charges.double(), charges.double()])
    expected = torch.zeros(mol.nao, mol.nao, dtype=torch.float64)
    for k, charge in enumerate(charges.double()):  # both parts make the whole Coulomb operator
        both = gto.conc_mol(
            mol, gto.fakemol_for_charges(mol.atom_coords()[k : k + 1], multipoles_width(mol, k))
        )
        at = (0, mol.nbas, 0, mol.nbas, mol.nbas, mol.nbas + 1)
        expected += charge * torch.from_numpy(both.intor("int3c2e", shls_slice=at)[..., 0])
    torch.testing.assert_close(clouds.field(seen), expected, rtol=0, atol=1e-9)


def test_the_field_of_dipoles_is_the_slope_of_that_of_charges():
    mol = mole("H 0 0 0; N 0 0 1.1")
    moments = torch.zeros(2, 4, dtype=torch.float64)
    moments[0, 2] = 1.0
    fields = []
    for y in (1e-3, -1e-3):
        width = DIPOLE_WIDTH * multipoles_width(mol, 0)
        both = gto.conc_mol(mol, gto.fakemol_for_charges(np.array([[0.0, y, 0.0]]), width))
        at = (0, mol.nbas, 0, mol.nbas, mol.nbas, mol.nbas + 1)
        with both.with_range_coulomb(SPLIT):
            fields.append(torch.from_numpy(both.intor("int3c2e", shls_slice=at)[..., 0]))
    slope = (fields[0] - fields[1]) / 2e-3
    far = atomic_clouds(mol).far_field(moments.flatten())
    torch.testing.assert_close(far, slope, rtol=0, atol=1e-8)


def test_between_orthonormal_orbitals_the_field_stays_a_potential():
    """Nearly dependent orbitals: a far field taken at the atoms would be hartrees off."""
    mol = mole("C 0 0 0; C 0 0 1.2; H 0 .3 2.2; H 0 .2 -1.1", basis="aug-cc-pvdz")
    clouds = atomic_clouds(mol, dipoles=False)
    charges = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
    x = orthogonaliser(clouds.ovlp, 1e-7)
    # the potential along the molecule, where it is largest; the clouds' own width hardly matters
    along = np.linspace(-3, 6, 91)[:, None]
    r = np.abs(along - mol.atom_coords()[:, 2]) + 1e-9
    highest = np.abs(scipy.special.erf(SPLIT * r) / r @ charges.numpy()).max()
    levels = torch.linalg.eigvalsh(x.mT @ clouds.far_field(charges) @ x)
    assert 0.3 * highest < levels.abs().max() < 1.1 * highest
    weights = torch.cat([torch.zeros(4, dtype=torch.float64), clouds.far @ charges])
    of_atoms = torch.linalg.eigvalsh(x.mT @ clouds.potential(weights) @ x)
    assert of_atoms.abs().max() > 10 * highest


@pytest.mark.parametrize("settings", [{}, {"spin": 2}, {"charge": 1, "spin": 1}])
@pytest.mark.parametrize("width", [0.01, 0.3])
def test_the_response_is_that_of_finite_differences(monkeypatch, settings, width):
    """With partly filled levels, whose electrons the chemical potential counts, and without."""
    monkeypatch.setattr(multipoles, "WIDTH", width)
    mol = mole(**settings)
    h, x, clouds, _ = solved(mol)
    spectrum = multipoles.Spectrum.of(h, x, mol.nelec)
    response = multipoles._response(spectrum, clouds)
    weights = torch.from_numpy(np.random.default_rng(2).normal(size=len(response)))
    step = 1e-4

    def seen(size):
        moved = h + clouds.potential(size * step * weights)
        return clouds.seen(multipoles.Spectrum.of(moved, x, mol.nelec).densities().sum(0))

    numeric = (8 * (seen(1) - seen(-1)) - (seen(2) - seen(-2))) / (12 * step)
    torch.testing.assert_close(response @ weights, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"charge": -1, "spin": 1}, {"charge": 2}])
def test_the_field_is_that_of_its_own_electrons(settings):
    mol = mole(**settings)
    h, x, clouds, found = solved(mol)
    electrons = multipoles.Spectrum.of(
        h + clouds.potential(clouds.kernel() @ found.seen), x, mol.nelec
    )
    torch.testing.assert_close(
        clouds.seen(electrons.densities().sum(0)), found.seen, rtol=0, atol=1e-4
    )
    torch.testing.assert_close(found.fock, h + clouds.field(found.seen), rtol=0, atol=1e-12)
    counts = (found.dm * clouds.ovlp).sum((-1, -2)).tolist()
    assert counts == pytest.approx(mol.nelec, abs=1e-9)
    assert (found.dm - found.dm_free).abs().max() > 0.01


def test_from_afar_it_is_the_field_of_the_molecules_charge_and_dipole():
    """Probed by the s functions of a helium 25 bohr away, against point multipoles from PySCF."""
    away = (3.0, 10.0, 23.0)
    atoms = "Li 0 0 0; H .3 .2 1.5; ghost-He 3 10 23"
    mol = mole(atoms, unit="bohr", charge=0)
    _, _, clouds, found = solved(mol)
    dm = found.dm.sum(0).numpy()
    charges = mol.atom_charges()
    centre = charges @ mol.atom_coords() / charges.sum()
    with mol.with_common_orig(centre):
        dipole = -np.einsum("xmn,mn->x", mol.intor("int1e_r"), dm)
    assert np.linalg.norm(dipole) > 0.5
    where = np.array(away) - centre
    expected = -dipole @ where / np.linalg.norm(where) ** 3
    field = clouds.field(clouds.seen(found.dm.sum(0)))[-2:, -2:]
    s = clouds.ovlp[-2:, -2:]
    np.testing.assert_allclose(field, expected * s, rtol=0.05, atol=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_it_turns_with_the_molecule_and_follows_its_atoms(sign):
    mol = mole("O 0 0 .1; H .1 .76 .58; H .05 -.74 .61; C 1.9 .3 .2", basis="def2-svp")
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    rotation = torch.from_numpy(q * np.sign(np.linalg.det(q)) * sign)
    turned = mol.set_geom_(mol.atom_coords() @ rotation.numpy().T, unit="bohr", inplace=False)
    u = ao_rotation(basis_layout([mol]), [8, 1, 1, 6], rotation)
    before, after = solved(mol)[-1], solved(turned)[-1]
    torch.testing.assert_close(u @ before.fock @ u.T, after.fock, rtol=0, atol=1e-10)
    torch.testing.assert_close(u @ before.dm @ u.T, after.dm, rtol=0, atol=1e-9)
    order = [2, 0, 3, 1]
    other = mole([mol._atom[k] for k in order], basis="def2-svp", unit="bohr")
    own = np.concatenate([np.arange(*mol.aoslice_by_atom()[k][2:]) for k in order])
    permuted = solved(other)[-1].fock
    torch.testing.assert_close(before.fock[own][:, own], permuted, rtol=0, atol=1e-10)


def test_a_degenerate_shell_is_filled_evenly():
    """OH's hole is in both π orbitals: nothing chooses one of them."""
    mol = mole("O 0 0 0; H 0 0 .97", spin=1, basis="def2-svp")
    found = solved(mol)[-1].dm.sum(0)
    px, py = (mol.search_ao_label(f"O 2p{axis}") for axis in "xy")
    torch.testing.assert_close(found[px][:, px], found[py][:, py], rtol=0, atol=1e-9)


def test_a_bare_proton_and_full_shells_have_an_answer():
    alone = solved(mole("H 0 0 0", charge=1))[-1]
    assert alone.dm.abs().max() == 0
    full = solved(mole("He 0 0 0", basis="sto-3g"))[-1]
    assert float(full.dm.sum()) == pytest.approx(2)


def test_electrons_that_could_be_elsewhere_are_still_found():
    """Two like ions far apart share a hole: levels cross with every step of the solution."""
    mol = mole("Na 0 0 0; Na 0 0 12", charge=1, spin=1)
    h, x, clouds, found = solved(mol)
    electrons = multipoles.Spectrum.of(
        h + clouds.potential(clouds.kernel() @ found.seen), x, mol.nelec
    )
    torch.testing.assert_close(
        clouds.seen(electrons.densities().sum(0)), found.seen, rtol=0, atol=1e-5
    )
    charges = found.seen[2::4]
    np.testing.assert_allclose(charges, [-0.5, -0.5], rtol=0, atol=1e-5)


def test_the_field_of_a_molecule_beyond_every_cutoff_is_in_the_base():
    """H = base + what both molecules need alone: error with superposed atoms, and with charges."""
    errors = {}
    both = [*WATER, *((a, (x, y, z + 14.5)) for a, (x, y, z) in WATER)]
    parts = (WATER, both[3:], both)
    for name in ("superposed", "multipoles"):
        left = []
        for atoms in parts:
            mol = mole(list(atoms), unit="bohr", basis="sto-3g")
            ks = KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0)
            h, _, _, found = solved(mol)
            left.append(ks.scf(conv_tol_grad=1e-7).fock - (h if name[0] == "s" else found.fock))
        errors[name] = float((torch.block_diag(*left[:2]) - left[2]).abs().max())
    assert errors["superposed"] > 1e-3
    assert errors["multipoles"] < 0.25 * errors["superposed"]
