"""Assembly from a Mole or a mean-field object; equality with PySCF at one density."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from pyscf import dft, gto, scf

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals.calculation import calculation
from deeph_zero.integrals.system import _check_limits, ks_data
from deeph_zero.ks.facade import MoleculeFacade
from deeph_zero.ks.layer import KohnShamLayer

OH = {"atom": "O 0 0 0.1; H 0.1 0.3 0.9", "basis": "def2-svp", "spin": 1, "verbose": 0}


def moved(dm, seed=3):
    """A density away from the guess that is still positive, so that tau and rho are physical."""
    nao = dm.shape[-1]
    change = np.eye(nao) + np.random.default_rng(seed).normal(size=(nao, nao)) * 0.03
    return change @ dm @ change.T


def assert_same_as_pyscf(mf, **keywords):
    """Energy and Fock of our build equal PySCF's at the same, not converged, density."""
    data, info = ks_data(calculation(mf, **keywords))
    dm = moved(data.dm_guess.numpy())
    reference = mf.get_fock(dm=dm)
    energy = mf.energy_tot(dm=dm)
    ours = MoleculeFacade(KohnShamLayer(data)).build(torch.from_numpy(dm))
    assert np.abs(reference).max() > 0.1
    np.testing.assert_allclose(ours.fock.numpy(), reference, atol=1e-9)
    assert abs(float(ours.energy) - energy) < 1e-9
    return data, info


@pytest.mark.parametrize("xc", ["pbe", "pbe0", "hse06", "camb3lyp", "wb97x", "tpss", "lda,vwn"])
def test_restricted_equals_pyscf(water, xc):
    mf = dft.RKS(water, xc=xc).density_fit()
    mf.grids.level = 0
    _, info = assert_same_as_pyscf(mf)
    assert info.xc == xc
    assert info.density_fit
    assert info.grid_level == 0


@pytest.mark.parametrize("xc", ["pbe", "camb3lyp"])
@pytest.mark.parametrize("fit", [True, False])
def test_unrestricted_equals_pyscf(xc, fit):
    mf = dft.UKS(gto.M(**OH), xc=xc)
    mf.grids.level = 0
    if fit:
        mf = mf.density_fit()
    data, info = assert_same_as_pyscf(mf)
    assert data.unrestricted
    assert data.nelec == (5, 4)
    assert info.density_fit is fit
    assert (info.auxbasis is not None) is fit


@pytest.mark.parametrize("make", [scf.RHF, scf.UHF])
@pytest.mark.parametrize("fit", [True, False])
def test_hartree_fock_has_no_grid(water, make, fit):
    mf = make(water).density_fit() if fit else make(water)
    data, info = assert_same_as_pyscf(mf)
    assert data.grid is None
    assert data.functional is None
    assert (info.xc, info.kind, info.hyb, info.ngrids, info.grid_level) == ("hf", "HF", 1, 0, None)


MOLECULES = {
    "ecp": {"atom": "H .1 .2 0; I 0 .3 1.6", "basis": "def2-svp", "ecp": "def2-svp"},
    "cart": {"atom": "O 0 0 .1; H 0 .76 .58", "basis": "6-31g*", "cart": True, "charge": -1},
    "ghost": {"atom": "He 0 0 0; ghost-He 0 .4 1.5", "basis": "def2-svp"},
    "f": {"atom": "N .1 .2 .3; N 0 .3 1.4", "basis": "def2-tzvp"},
    "h2": {"atom": "H .1 .2 .3; H 0 .3 1.0", "basis": "sto-3g"},
    "he": {"atom": "He .1 .2 .3", "basis": "def2-svp"},
}


@pytest.mark.parametrize("name", MOLECULES)
def test_unusual_molecules_equal_pyscf(name):
    mol = gto.M(verbose=0, **MOLECULES[name])
    mf = dft.RKS(mol, xc="pbe0").density_fit()
    mf.grids.level = 0
    assert_same_as_pyscf(mf)


def test_hydrogen_atom_equals_pyscf():
    mf = dft.UKS(gto.M(atom="H .1 .2 .3", basis="def2-svp", spin=1, verbose=0), xc="b3lyp")
    mf = mf.density_fit()
    mf.grids.level = 0
    data, _ = assert_same_as_pyscf(mf)
    assert data.nelec == (1, 0)


def test_hydrogen_atom_pbe_energy_and_occupied_channel():
    # libxc's PBE potential of the empty channel changes by 1e-5 Eh when the density changes in
    # its last bit (cancellation at full polarisation), so only the other channel is comparable
    mf = dft.UKS(gto.M(atom="H .1 .2 .3", basis="def2-svp", spin=1, verbose=0), xc="pbe")
    mf = mf.density_fit()
    mf.grids.level = 0
    data, _ = ks_data(calculation(mf))
    dm = moved(data.dm_guess.numpy())
    ours = MoleculeFacade(KohnShamLayer(data)).build(torch.from_numpy(dm))
    assert abs(float(ours.energy) - mf.energy_tot(dm=dm)) < 1e-9
    np.testing.assert_allclose(ours.fock[0].numpy(), mf.get_fock(dm=dm)[0], atol=1e-9)


def test_coulomb_only_fitting_is_followed(water):
    mf = dft.RKS(water, xc="pbe0").density_fit(only_dfj=True)
    mf.grids.level = 0
    data, info = assert_same_as_pyscf(mf)
    assert type(data.coulomb) is not type(data.exchange[0][1])
    assert info.memory_bytes > 0


def test_mole_with_keywords_equals_the_mean_field_object(water):
    mf = dft.RKS(water, xc="pbe").density_fit()
    mf.grids.level = 1
    from_mf, info_mf = ks_data(calculation(mf))
    from_mole, info_mole = ks_data(calculation(water, xc="pbe", grid_level=1))
    assert info_mf == info_mole
    assert info_mole.auxbasis == "def2-universal-jfit"
    assert torch.equal(from_mf.hcore, from_mole.hcore)
    assert torch.equal(from_mf.coulomb.cderi, from_mole.coulomb.cderi)
    assert torch.equal(from_mf.dm_guess, from_mole.dm_guess)


def test_mean_field_object_decides_everything_it_sets(water):
    mf = dft.RKS(water, xc="pbe0").density_fit(auxbasis="def2-tzvp-jkfit")
    mf.grids.atom_grid = {"O": (30, 110), "H": (20, 86)}
    data, info = assert_same_as_pyscf(mf)
    assert not data.unrestricted
    assert (info.xc, info.auxbasis, info.grid_level) == ("pbe0", "def2-tzvp-jkfit", None)
    assert info.ngrids == np.count_nonzero(mf.grids.weights)


@pytest.mark.parametrize("change", [{"prune": None}, {"becke_scheme": dft.gen_grid.stratmann}])
def test_changed_grid_settings_are_followed_and_called_custom(water, change):
    mf = dft.RKS(water, xc="pbe").density_fit()
    mf.grids.level = 0
    for key, value in change.items():
        setattr(mf.grids, key, value)
    _, info = assert_same_as_pyscf(mf)
    assert info.grid_level is None


def test_functional_changed_after_density_fit_keeps_the_objects_fitting_set(water):
    # PySCF resolves the set of an unnamed functional for exact exchange, whatever xc becomes later
    mf = dft.RKS(water).density_fit()
    mf.xc = "pbe"
    mf.grids.level = 0
    _, info = assert_same_as_pyscf(mf)
    assert info.auxbasis == "def2-svp-jkfit"


def test_finished_tensor_of_the_object_is_taken_over(water):
    mf = dft.RKS(water, xc="pbe").density_fit()
    mf.with_df.build()
    mf.with_df._cderi = mf.with_df._cderi * 1.01
    data, _ = ks_data(calculation(mf))
    assert np.array_equal(data.coulomb.cderi.numpy(), mf.with_df._cderi)
    assert data.coulomb.cderi.data_ptr() != mf.with_df._cderi.ctypes.data


def test_tensor_on_disk_is_read(water, tmp_path):
    mf = dft.RKS(water, xc="pbe").density_fit()
    mf.with_df._cderi_to_save = str(tmp_path / "cderi.h5")
    mf.with_df.build()
    assert isinstance(mf.with_df._cderi, str)
    data, _ = ks_data(calculation(mf))
    reference, _ = ks_data(calculation(water, xc="pbe"))
    assert torch.allclose(data.coulomb.cderi, reference.coulomb.cderi, atol=1e-11, rtol=0)


def test_info_is_complete_and_fits_json(water):
    data, info = ks_data(calculation(water, xc="b3lyp", grid_level=0))
    stored = json.loads(json.dumps(dataclasses.asdict(info)))
    assert stored["method"]["xc"] == "b3lyp"
    assert stored["basis"] == "def2-svp"
    assert stored["hyb"] == pytest.approx(0.2)
    assert stored["nao"] == water.nao == 24
    assert stored["naux"] == data.coulomb.cderi.shape[0]
    assert (stored["charge"], stored["spin"], stored["cart"]) == (0, 0, False)
    assert all(isinstance(n, str) and isinstance(c, float) for n, c in stored["xc_components"])
    tensors = data.coulomb.cderi.numel() * 8
    assert tensors < stored["memory_bytes"] <= tensors + 4 * 24 * info.ngrids * 8


def test_mixed_basis_is_called_custom():
    mol = gto.M(atom="O 0 0 0; H 0 .3 .9", charge=-1, basis={"O": "def2-tzvp", "H": "def2-svp"})
    mol.verbose = 0
    _, info = ks_data(calculation(mol, grid_level=0))
    assert info.basis == "custom"
    same = gto.M(atom="O 0 0 0; H 0 .3 .9", charge=-1, basis={"O": "def2-svp", "H": "def2-svp"})
    assert ks_data(calculation(same, grid_level=0))[1].basis == "def2-svp"


def test_every_tensor_is_float64_and_contiguous(water):
    data, _ = ks_data(calculation(water, grid_level=0))
    tensors = [data.ovlp, data.hcore, data.dipole, data.nuclear_dipole, data.dm_guess]
    tensors += [data.coulomb.cderi, data.grid.block(0).rows, data.grid.block(0).weights]
    for tensor in tensors:
        assert tensor.dtype == torch.float64
        assert tensor.is_contiguous()


def test_unrestricted_follows_the_spin_or_the_wish(water):
    assert not ks_data(calculation(water, grid_level=0))[0].unrestricted
    two = calculation(water, grid_level=0, unrestricted=True)
    assert ks_data(two)[0].dm_guess.shape == (2, 24, 24)
    assert ks_data(calculation(gto.M(**OH), grid_level=0))[0].unrestricted
    method = dataclasses.replace(two.method, break_symmetry=True)
    broken = ks_data(dataclasses.replace(two, method=method))[0].dm_guess
    assert (broken[0] - broken[1]).abs().max() > 1e-2


def test_memory_limits(water):
    with pytest.raises(ComputationError, match=r"within 0 MB, it takes \d+ MB"):
        ks_data(calculation(water), max_memory_mb=0.01)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((None, None, "x", "auto"), "engine: expected one of auto, torch, libxc, got 'x'"),
        ((None, 1, "auto", "libxc"), "ao_engine: expected one of auto, .*, got 'libxc'"),
        ((-1, None, "auto", "torch"), "ao_memory_mb: expected a number of megabytes from 0 up"),
        ((0, "1 GB", "libxc", "libcint"), "max_memory_mb: expected a number .*, got '1 GB'"),
    ],
)
def test_engines_that_do_not_exist_and_memory_that_is_none(given, words):
    with pytest.raises(InputError, match=f"^{words}"):
        _check_limits(*given)


def test_wrong_keywords_are_refused(water, caplog):
    with pytest.raises(InputError, match="spin 1; use unrestricted=True"):
        ks_data(calculation(gto.M(**OH), unrestricted=False))
    with pytest.raises(InputError, match="grid_level 0 to 9, got 10"):
        ks_data(calculation(water, grid_level=10))
    with pytest.raises(InputError, match="def2-universal-jfit"):
        ks_data(calculation(water, auxbasis="def2-universal-jft"))
    with caplog.at_level("WARNING", logger="deeph_zero"):
        calculation(water, density_fit=False, auxbasis="weigend")
    assert caplog.messages == [
        "auxbasis has no effect with density_fit=False; leave one of them out"
    ]
    caplog.clear()
    with caplog.at_level("WARNING", logger="deeph_zero"):
        calculation(water, xc="pbe", nlc_grid_level=2)
        calculation(water, xc="wb97m-v", nlc_grid_level=2)
    assert caplog.messages == [
        "nlc_grid_level has no effect with pbe, which has no VV10; leave one of them out"
    ]
    with pytest.raises(InputError, match=r"unbuilt.*mol.build\(\)"):
        ks_data(calculation(gto.Mole()))
    with pytest.raises(InputError, match="got int"):
        ks_data(calculation(3))
