"""Non-local correlation and dispersion: equality with PySCF, and what is refused."""

import logging

import numpy as np
import pytest
import torch
from pyscf import dft, gto, scf
from pyscf.dft import libxc

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.integrals import corrections, system
from deeph_zero.integrals import libxc as libxc_of_ours
from deeph_zero.integrals.calculation import calculation
from deeph_zero.integrals.corrections import corrections_in, corrections_of
from deeph_zero.integrals.libxc import describe
from deeph_zero.integrals.system import ks_data
from deeph_zero.ks.facade import MoleculeFacade
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.predict.record import dispersion_entry
from deeph_zero.testing import WATER

has_dispersion = pytest.mark.skipif(
    corrections.find_spec("pyscf.dispersion") is None, reason="needs deeph-zero[dispersion]"
)


def molecule(spin: int = 0, **settings) -> gto.Mole:
    given = {"atom": WATER, "basis": "6-31g", "charge": spin, "spin": spin, "verbose": 0}
    return gto.M(**(given | settings))


def mean_field(mol: gto.Mole, xc: str, *, fit: bool = True):
    mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc=xc)
    mf.grids.level, mf.nlcgrids.atom_grid = 0, (15, 50)
    return mf.density_fit() if fit else mf


def assert_same_as_pyscf(mf) -> dz.KohnSham:
    """Energy and Fock matrix at one density that is no solution."""
    ks = dz.KohnSham.from_pyscf(mf)
    dm = ks.data.dm_guess.numpy()
    change = np.eye(dm.shape[-1]) + np.random.default_rng(3).normal(size=dm.shape[-2:]) * 0.03
    dm = change @ dm @ change.T
    built = ks.build(torch.from_numpy(dm))
    assert abs(float(built.energy) - mf.energy_tot(dm=dm)) < 1e-10
    np.testing.assert_allclose(built.fock.numpy(), mf.get_fock(dm=dm), rtol=0, atol=1e-10)
    return ks


@pytest.mark.parametrize("spin", [0, 1])
@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("xc", ["wb97x-v", "wB97M_V"])
def test_vv10_equals_pyscf(xc: str, fit: bool, spin: int) -> None:
    ks = assert_same_as_pyscf(mean_field(molecule(spin), xc, fit=fit))
    assert ks.info.nlc == [[6.0, 0.01, 1.0]]
    assert float(ks.build(ks.data.dm_guess).parts["e_nlc"]) > 0.01


def test_level_of_the_nonlocal_grid_is_pyscfs() -> None:
    mol = molecule(atom="He 0 0 0; H .1 .2 .9", charge=1, spin=0)
    mf = dft.RKS(mol, xc="wb97x-v")
    mf.grids.level, mf.nlcgrids.level = 1, 0
    levels = {"grid_level": 1, "nlc_grid_level": 0}
    ks = dz.KohnSham.from_pyscf(mol, xc="wb97x-v", density_fit=False, **levels)
    dm = ks.data.dm_guess
    assert float(ks.build(dm).energy) == pytest.approx(mf.energy_tot(dm=dm.numpy()), abs=1e-10)
    assert ks.data.nlc is not None
    assert ks.data.nlc.grid.ngrids < ks.info.ngrids
    with pytest.raises(InputError, match="nlc_grid_level 0 to 9, got 10"):
        dz.KohnSham.from_pyscf(mol, xc="wb97x-v", nlc_grid_level=10)


@pytest.mark.parametrize(
    "xc", ["b97m-v", "vv10", "lc_vv10", "scan_vv10", "scan_rvv10", "0.5*vv10 + 0.5*pbe"]
)
def test_other_vv10_functionals_equal_pyscf(xc: str) -> None:
    ks = assert_same_as_pyscf(mean_field(molecule(1), xc))
    assert ks.info.nlc[0][2] == (0.5 if "0.5" in xc else 1.0)


@pytest.mark.parametrize("xc", ["pbe", "lda,vwn", "hf"])
def test_the_mean_field_object_decides(xc: str) -> None:
    mf = mean_field(molecule(), xc)
    mf.nlc = "vv10"
    assert assert_same_as_pyscf(mf).info.nlc == [[5.9, 0.0093, 1.0]]
    mf = mean_field(molecule(), "wb97x_v")
    mf.nlc = 0
    assert assert_same_as_pyscf(mf).data.nlc is None


def test_default_grids_are_those_of_pyscf() -> None:
    """A Mole takes PySCF's level 3 whatever the semilocal grid; equal grids share AO values."""
    mol = gto.M(atom="He 0 0 0", basis="6-31g", verbose=0)
    mf = dft.RKS(mol, xc="wb97x_v")
    mf.grids.level = 1
    mf.initialize_grids()
    data, info = ks_data(calculation(mol, xc="wb97x_v", density_fit=False, grid_level=1))
    assert data.nlc is not None
    assert data.nlc.grid.ngrids == np.count_nonzero(mf.nlcgrids.weights) > data.grid.ngrids
    assert info.ngrids == data.grid.ngrids
    shared, _ = ks_data(calculation(mol, xc="wb97x_v", density_fit=False))
    assert shared.nlc is not None
    assert shared.nlc.grid is shared.grid
    both = float(MoleculeFacade(KohnShamLayer(data)).build(data.dm_guess).energy)
    mf.energy_tot(dm=data.dm_guess.numpy())
    assert abs(both - mf.energy_tot(dm=data.dm_guess.numpy())) < 1e-10


@pytest.mark.parametrize("spin", [0, 1])
def test_scf_certificate_and_stability_with_vv10(spin: int) -> None:
    mol = molecule(spin, atom="F 0 0 0.1; H 0.1 0.3 0.9", basis="sto-3g")
    mf = mean_field(mol, "vv10")
    mf.grids.atom_grid = mf.nlcgrids.atom_grid = (12, 26)
    mf.conv_tol = 1e-11
    mf.kernel()
    ks = dz.KohnSham.from_pyscf(mf)
    start = ks.density(ks.build(ks.data.dm_guess).fock)
    first = ks.build(start)
    certificate = ks.certificate(start, first.fock, first.energy)
    result = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-6)
    assert result.converged
    assert abs(result.energy - mf.e_tot) < 1e-8
    error = float(first.energy) - result.energy
    assert 0.5 < certificate.energy_error_estimate / error < 2.0
    stability = ks.stability(result.dm, result.fock)
    assert stability.converged
    assert stability.stable_internal
    assert stability.stable_external is (None if spin else True)


@pytest.mark.parametrize(
    ("xc", "dispersion"),
    [("pbe", None), ("vv10", None), ("b97_d", None), ("hyb_gga_xc_wb97x_d3", None)],
)
def test_strings_without_dispersion(xc: str, dispersion: str | None) -> None:
    assert corrections_of(xc).dispersion is dispersion
    assert bool(corrections_of(xc).nlc) is bool(libxc.is_nlc(xc))


@pytest.mark.parametrize(
    ("xc", "words"),
    [
        ("pbe-d3foo", "expected one of d3bj"),
        ("b3lyp-d3", "expected one of d3bj"),
        ("b3lyp-d3(bj)", "expected one of d3bj"),
        ("pbe-d3bj,lyp", "expected one of d3bj"),
        ("b3lyp-d3bj-d4", "expected one of d3bj"),
        *(
            (xc, "PySCF does not")
            for xc in (
                "wb97x-d", "wb97x-d3", "wb97x_d", "WB97X_D", "wb97x_d3", "wb97m-d3bjatm",
                "r2scan-3c", "hf-3c", "wb97x-3c",
            )
        ),
        *(
            (xc, "-d3bj, -d3zero or -d4 behind")
            for xc in (
                "b3lypd3", "b3lyp_d3bj", "b3lyp-d2", "b3lyp-gd3bj", "b3lyp-d", "pbe-d", "pbe+d3bj",
                "pbe-ts", "pbe-mbd", "pbe-xdm", "b3lyp-nl",
            )
        ),
    ],
)  # fmt: skip
def test_unknown_dispersion_is_refused_as_pyscf_does(xc: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        describe(xc)
    assert "\n" not in str(error.value)
    mf = dft.RKS(molecule(atom="He 0 0 0", basis="sto-3g"), xc=xc)
    with pytest.raises((KeyError, ValueError, NotImplementedError)):
        mf.kernel()


@pytest.mark.parametrize("disp", ["d9", True, 3])
def test_an_objects_unknown_dispersion_is_refused(disp: object) -> None:
    mf = mean_field(molecule(), "pbe")
    mf.disp = disp
    with pytest.raises(InputError, match=repr(disp)):
        ks_data(calculation(mf))


@pytest.mark.parametrize(
    "xc", ["b97-d", "b97_d", "opbe_d", "hyb_gga_xc_wb97x_d", "471", "0.5*wb97x_d + 0.5*pbe"]
)
def test_a_functional_made_for_dispersion_says_that_none_is_added(
    xc: str, caplog: pytest.LogCaptureFixture
) -> None:
    libxc_of_ours._warn_of_missing_dispersion.cache_clear()
    with caplog.at_level(logging.WARNING, "deeph_zero"):
        describe(xc)
        describe(xc)
    assert caplog.text.count("its dispersion correction is not added") == 1
    mf = mean_field(molecule(atom="He 0 0 0; Ne .1 .2 3", basis="sto-3g"), xc, fit=False)
    assert mf.get_dispersion() == 0.0


@pytest.mark.parametrize("xc", ["pbe-d3bj", "B3LYP-D4", "wb97m-d3bj", "cf22d", "hf-d3bj"])
def test_missing_extra_is_one_line(xc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'deeph-zero\[dispersion\]'") as error:
        ks_data(calculation(molecule(), xc=xc))
    assert xc in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    for mf in (scf.RHF(molecule()), mean_field(molecule(), "pbe")):
        mf.disp = "d4"
        with pytest.raises(InputError, match="disp 'd4'"):
            ks_data(calculation(mf))


def test_dispersion_switched_off_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "find_spec", lambda _: None)
    mf = mean_field(molecule(), "pbe-d3bj")
    mf.disp = False
    assert corrections_in(mf).dispersion is None
    assert assert_same_as_pyscf(mf).data.e_disp == 0.0


def test_dispersion_adds_to_every_energy_and_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without the extra: the number is made up, what is done with it is not."""
    monkeypatch.setattr(corrections, "check_dispersion", lambda *_: None)
    monkeypatch.setattr(system, "dispersion_energy", lambda *_: -0.25)
    mol = molecule(basis="sto-3g")
    without, plain = ks_data(calculation(mol, xc="pbe", grid_level=0))
    data, info = ks_data(calculation(mol, xc="pbe-d4", grid_level=0))
    one, other = (MoleculeFacade(KohnShamLayer(d)).build(without.dm_guess) for d in (data, without))
    assert float(one.energy - other.energy) == pytest.approx(-0.25, abs=1e-13)
    assert torch.equal(one.fock, other.fock)
    assert dispersion_entry(info) == {"dispersion_energy": -0.25}
    assert dispersion_entry(plain) == {}


def test_a_string_with_two_readings_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    corrections.split.cache_clear()
    with caplog.at_level(logging.WARNING, "deeph_zero"):
        assert corrections.split("wB97X-d4")[2] == "d4:wb97x-2008"
    assert "wb97x with d4:wb97x-2008" in caplog.text


@has_dispersion
@pytest.mark.parametrize("spin", [0, 1])
@pytest.mark.parametrize(
    ("xc", "disp"),
    [
        ("pbe-d3bj", None), ("PBE-D4", None), ("b3lyp-d3bjatm", None), ("wb97m-d3bj", None),
        ("b97m-d4", None), ("pbe", "d3zero"), ("b3lyp-d4", "d3bj"), ("pbe", "d3bj:b3lyp"),
    ],
)  # fmt: skip
def test_dispersion_equals_pyscf(xc: str, disp: str | None, spin: int) -> None:
    mf = mean_field(molecule(spin, basis="sto-3g"), xc)
    mf.disp = disp
    ks = assert_same_as_pyscf(mf)
    expected = mf.get_dispersion()
    assert ks.data.e_disp == pytest.approx(expected, abs=1e-14)
    assert expected < -1e-6
    assert ks.info.e_disp == ks.data.e_disp
    assert ks.info.dispersion == (disp or describe(xc).corrections.dispersion)
    if disp is None:
        from_mole, _ = ks_data(calculation(mf.mol, xc=xc, grid_level=0))
        assert from_mole.e_disp == ks.data.e_disp


@has_dispersion
def test_dispersion_of_hartree_fock() -> None:
    mf = scf.RHF(molecule())
    mf.disp = "d3bj"
    assert assert_same_as_pyscf(mf).data.e_disp < -1e-4


@has_dispersion
def test_functional_without_parameters_is_refused() -> None:
    with pytest.raises(InputError, match="no d3bj parameters"):
        describe("0.5*pbe + 0.5*b88-d3bj")
    with pytest.raises(InputError, match="no d4 parameters"):
        describe("b3lyp5-d4")
