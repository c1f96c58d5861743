"""A uniform electric field: PySCF's energies, and the dipole moment as its derivative."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.data import nist

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.response.stability import unrestricted_layer

ATOM = "O 0.3 0 0.1; H 0.3 0.76 0.58; H 0.35 -0.74 0.61"
FIELD = (0.01, -0.02, 0.015)
TIGHT = {"conv_tol": 1e-11, "conv_tol_grad": 1e-7}


def molecule(charge):
    return gto.M(atom=ATOM, basis="sto-3g", charge=charge, spin=charge, verbose=0)


def layer(charge, field, **settings):
    settings = {"xc": "pbe", "grid_level": 0, **settings}
    return KohnSham.from_pyscf(molecule(charge), field=field, **settings)


@pytest.mark.parametrize("charge", [0, 1])
def test_scf_in_a_field_equals_pyscf(charge):
    mol = molecule(charge)
    mf = (dft.UKS if charge else dft.RKS)(mol, xc="pbe").density_fit()
    mf.grids.level, mf.conv_tol = 0, 1e-11
    plain = mf.get_hcore()
    mf.get_hcore = lambda *_: plain + np.einsum("x,xmn->mn", FIELD, mol.intor("int1e_r"))
    wanted = mf.kernel() - mol.atom_charges() @ mol.atom_coords() @ FIELD
    ks = layer(charge, FIELD)
    result = ks.scf(**TIGHT)
    assert result.energy == pytest.approx(wanted, abs=1e-8)
    assert result.energy != pytest.approx(layer(charge, None).scf().energy, abs=1e-4)
    assert np.abs(result.mo_energy.numpy() - mf.mo_energy).max() < 1e-5


@pytest.mark.parametrize("charge", [0, 1])
def test_the_energy_changes_by_the_dipole_moment(charge):
    """dE/dε = -μ about the origin, where the energy of an ion has its zero."""
    ks = layer(charge, None)
    mol = molecule(charge)
    charges = mol.atom_charges()
    centre = charges @ mol.atom_coords() / charges.sum()
    moment = ks.dipole(ks.scf(**TIGHT).dm).numpy() / nist.AU2DEBYE + charge * centre
    assert np.abs(moment).max() > 0.1
    for axis in (1, 2):
        shifted = []
        for size in (1e-3, -1e-3):
            field = np.zeros(3)
            field[axis] = size
            shifted.append(layer(charge, field).scf(**TIGHT).energy)
        assert (shifted[1] - shifted[0]) / 2e-3 == pytest.approx(moment[axis], abs=2e-5)


def test_whatever_is_made_of_a_layer_feels_the_field():
    ks = layer(0, FIELD, grid_level=3)
    dm = ks.data.dm_guess
    energy = ks.build(dm).parts["e_field"]
    assert abs(float(energy)) > 1e-3
    assert ks.layer.coarse is not None
    assert ks.layer.coarse.build(ks.layer.dm_guess).parts["e_field"] == energy
    spins = torch.stack([dm, dm]) / 2
    open_shell = unrestricted_layer(ks.layer).build(spins).parts["e_field"]
    assert float(open_shell) == pytest.approx(float(energy), abs=1e-12)
    batch = KohnShamBatch.from_pyscf([molecule(0)], xc="pbe", grid_level=0, field=FIELD)
    assert float(batch.build([dm])[0].parts["e_field"]) == pytest.approx(float(energy), abs=1e-12)


def test_an_object_with_a_field_of_its_own_feels_both():
    mol = molecule(0)
    mf = dft.RKS(mol, xc="pbe").density_fit()
    mf.grids.level = 0
    extra = np.einsum("x,xmn->mn", FIELD, mol.intor("int1e_r"))
    plain = mf.get_hcore()
    mf.get_hcore = lambda *_: plain + extra
    dm = layer(0, None).data.dm_guess
    once, twice = KohnSham.from_pyscf(mf).build(dm), KohnSham.from_pyscf(mf, field=FIELD).build(dm)
    torch.testing.assert_close(twice.fock - once.fock, torch.from_numpy(extra), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "field", [(1, 2), 0.1, (0, 0, float("nan")), ("x", 0, 0), [[0, 0, 1]], (None, 0, 0), "zzz"]
)
def test_what_is_no_field_is_refused(field):
    with pytest.raises(InputError, match="field expected three finite numbers"):
        layer(0, field)
