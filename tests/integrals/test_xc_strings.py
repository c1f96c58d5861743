"""Every spelling of a functional means here what it means in PySCF: coefficients, energy, Fock."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.dft import numint

from deeph_zero.errors import InputError
from deeph_zero.integrals.calculation import calculation
from deeph_zero.integrals.libxc import describe, make_functional
from deeph_zero.integrals.system import ks_data
from deeph_zero.ks.facade import MoleculeFacade
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.xc.functional import SemilocalFunctional

STRINGS = [
    "HF",
    "hf,",
    "LDA",
    "lda,vwn",
    "SVWN",
    "lda, vwn_rpa",
    "PBE",
    "pbe,",
    ",lyp",
    "PBE,PBE",
    "B88,LYP",
    "blyp",
    "b3lyp",
    "B3LYPG",
    "b3lyp5",
    "0.5*HF + 0.5*B88, LYP",
    "0.2*hf + 0.08*lda + 0.72*b88, 0.81*lyp + 0.19*vwn",
    "pbe0",
    "CAM-B3LYP",
    "camb3lyp",
    "wb97x-v",
    "wB97X_V",
    "HSE06",
    "hse06",
    "M06-L",
    "r2SCAN",
    "rsh(0.4,0.6,-0.4) + 0.4*ityh, lyp",
    "0.25*SR_HF(0.3) + gga_x_wpbeh,",
    "RSH(0.4,0.6,-0.4) + b88, lyp",
    "hse06 + 0.1*gga_x_wpbeh",
    "0.5*camb3lyp + 0.5*pbe",
    "0.25*SR_HF(0.11) + 0.75*pbe, pbe",
    "LR_HF(0.3) + 0.5*pbe",
    "gga_x_pbe + gga_c_pbe",
    "101,130",
]


@pytest.fixture(scope="module")
def radical() -> gto.Mole:
    """An asymmetric open shell."""
    return gto.M(
        atom="O 0 0 0.1; H 0.2 0.7 0.5; H 0.1 -0.8 0.6", charge=1, spin=1, basis="sto-3g", verbose=0
    )


@pytest.mark.parametrize("xc", STRINGS)
def test_string_means_what_pyscf_says(radical: gto.Mole, xc: str) -> None:
    spec = describe(xc)
    coefficients = numint.NumInt().rsh_and_hybrid_coeff(xc)
    assert (spec.omega, spec.alpha, spec.hyb) == pytest.approx(coefficients, abs=0)
    mf = dft.UKS(radical, xc=xc)
    mf.grids.atom_grid = mf.nlcgrids.atom_grid = (10, 26)
    data, info = ks_data(calculation(mf))
    dm = data.dm_guess.numpy()
    built = MoleculeFacade(KohnShamLayer(data)).build(torch.from_numpy(dm))
    assert info.xc == xc
    assert abs(float(built.energy) - mf.energy_tot(dm=dm)) < 1e-10
    np.testing.assert_allclose(built.fock.numpy(), mf.get_fock(dm=dm), rtol=0, atol=1e-10)


def test_torch_refuses_an_omega_it_does_not_take() -> None:
    spec = describe("0.25*SR_HF(0.3) + gga_x_wpbeh,")
    with pytest.raises(InputError, match="omega of its own"):
        make_functional(spec, unrestricted=False, engine="torch")
    plain = make_functional(describe("LR_HF(0.3) + 0.5*pbe"), unrestricted=False, engine="torch")
    assert isinstance(plain, SemilocalFunctional)


@pytest.mark.parametrize("xc", ["0.5*camb3lyp + 0.5*hse06", "0.5*hse06 + 0.5*gga_x_ityh"])
def test_two_omegas_are_refused(xc: str) -> None:
    with pytest.raises(InputError, match="range separation PySCF cannot evaluate"):
        describe(xc)


def test_a_text_of_a_screen_is_no_functional() -> None:
    with pytest.raises(InputError, match="at most 400 characters, got 9000") as caught:
        describe("pbe+lyp, " * 1000)
    assert len(str(caught.value)) < 150


def test_a_negative_omega_is_refused() -> None:
    with pytest.raises(InputError, match=r"0 or more, got -0.46; the order is RSH\(alpha"):
        describe("RSH(0.33; 0.65; -0.46) + 0.46*ITYH, LYP")


@pytest.mark.parametrize("xc", ["1e400*pbe", "1e400*hf + pbe", "-1e999*b88,lyp"])
def test_infinite_coefficients_are_refused(xc: str) -> None:
    with pytest.raises(InputError, match="expected finite coefficients") as error:
        describe(xc)
    assert repr(xc) in str(error.value)


def test_spellings_of_one_functional_agree() -> None:
    for same in (("wb97x-v", "wB97X_V"), ("b3lyp", "B3LYPG"), ("PBE", "pbe,pbe"), ("hf", "HF,")):
        one, other = map(describe, same)
        assert one.corrections == other.corrections
        assert (one.hyb, one.alpha, one.omega) == (other.hyb, other.alpha, other.omega)
    assert describe("b3lyp").components != describe("b3lyp5").components
