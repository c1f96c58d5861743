"""Where an SCF starts."""

import pytest
import torch
from pyscf import gto, scf

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.ks.scf.start import filled_density, starting_density
from deeph_zero.testing import WATER


@pytest.fixture(scope="module", params=[0, 1])
def pair(request):
    spin = request.param
    mol = gto.M(atom=WATER, basis="sto-3g", charge=spin, spin=spin, verbose=0)
    ks = dz.KohnSham.from_pyscf(mol, xc="hf", unrestricted=bool(spin))
    return mol, ks, ks.layer


def test_the_core_guess_is_pyscfs(pair):
    mol, ks, layer = pair
    found = starting_density(layer, "core")
    mf = scf.UHF(mol) if ks.unrestricted else scf.RHF(mol)
    wanted = torch.as_tensor(mf.init_guess_by_1e(mol)).reshape(found.shape)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_superposed_atoms_are_the_layers(pair):
    *_, layer = pair
    assert torch.equal(starting_density(layer, "minao"), layer.dm_guess)
    with pytest.raises(InputError, match="expected init_guess 'minao' or 'core', got 'atom'"):
        starting_density(layer, "atom")


def test_levels_that_touch_are_filled_evenly_on_request(pair):
    """The last filled level of alpha and the next one, 1e-4 Eh apart."""
    *_, layer = pair
    levels = torch.arange(layer.nao, dtype=torch.float64)
    highest = layer.nelec[0] - 1
    levels[highest + 1] = levels[highest] + 1e-4
    inverse = torch.linalg.inv(layer.x)
    fock = (inverse.mT @ levels.diag() @ inverse).expand(layer.nspin, -1, -1)
    for tol, wanted in ((0.0, [1.0, 0.0]), (1e-3, [0.5, 0.5])):
        dm, entropy = filled_density(layer, fock, tol)
        assert entropy == 0.0
        filled = (inverse @ dm[0] @ inverse.mT).diagonal() / layer.per_orbital
        assert filled[highest : highest + 2].tolist() == pytest.approx(wanted, abs=1e-9)
        assert float((dm @ layer.data.ovlp).diagonal(dim1=-2, dim2=-1).sum()) == pytest.approx(
            sum(layer.nelec)
        )
