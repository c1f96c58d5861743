"""What was computed, in names and numbers that PySCF has too."""

import pytest
from pyscf import dft, gto

from deeph_zero.integrals.calculation import calculation
from deeph_zero.integrals.info import ks_info

MOLECULES = {
    "ion": {"atom": "O 0 0 .1; H .1 .76 .58", "basis": "def2-svp", "charge": -1},
    "core": {"atom": "H .1 .2 0; I 0 .3 1.6", "basis": "def2-svp", "ecp": "def2-svp"},
    "ghost": {"atom": "He 0 0 0; ghost-He 0 .4 1.5", "basis": "def2-svp"},
    "cartesian": {"atom": "O 0 0 .1; H 0 .76 .58", "basis": "6-31g*", "cart": True, "spin": 1},
}


@pytest.mark.parametrize("name", MOLECULES)
def test_sizes_and_charges_are_the_molecules(name):
    mol = gto.M(verbose=0, **MOLECULES[name])
    info = ks_info(calculation(mol, grid_level=1), auxbasis="weigend", ngrids=7, naux=5)
    assert (info.nao, info.cart, info.charge, info.spin) == (
        mol.nao, mol.cart, mol.charge, mol.spin,
    )  # fmt: skip
    assert info.ao_atoms == tuple(label[0] for label in mol.ao_labels(fmt=None))
    assert info.atom_charges == tuple(mol.atom_charges())
    assert info.method.unrestricted is bool(mol.spin)
    assert (info.ngrids, info.naux, info.auxbasis, info.grid_level) == (7, 5, "weigend", 1)
    assert (info.xc, info.density_fit, info.kind, info.dispersion) == ("pbe", True, "GGA", None)


@pytest.mark.parametrize("xc", ["pbe0", "hse06", "camb3lyp", "wb97x", "b3lyp", "lda,vwn", "r2scan"])
def test_exact_exchange_is_libxcs(xc):
    mol = gto.M(atom="He 0 0 0", basis="sto-3g", verbose=0)
    info = ks_info(calculation(mol, xc=xc, density_fit=False), auxbasis=None)
    omega, alpha, hyb = dft.numint.NumInt().rsh_and_hybrid_coeff(xc)
    assert info.omega == pytest.approx(abs(omega))
    assert info.hyb == pytest.approx(hyb)
    if omega:
        assert info.alpha == pytest.approx(alpha)
    assert info.kind == {"LDA": "LDA", "GGA": "GGA", "MGGA": "MGGA"}[dft.libxc.xc_type(xc)]
    assert (info.density_fit, info.auxbasis) == (False, None)


def test_what_is_absent_is_zero_or_none():
    mol = gto.M(atom="He 0 0 0", basis="sto-3g", verbose=0)
    info = ks_info(calculation(mol, xc="hf", density_fit=False), auxbasis=None)
    assert (info.kind, info.xc_components, info.hyb) == ("HF", [], 1.0)
    assert (info.ngrids, info.grid_level, info.naux) == (0, None, 0)
    assert (info.e_disp, info.memory_bytes, info.nlc) == (0.0, 0, [])


def test_vv10_has_its_numbers():
    mol = gto.M(atom="He 0 0 0", basis="sto-3g", verbose=0)
    ((b, c, coefficient),) = ks_info(calculation(mol, xc="wb97x-v"), auxbasis=None).nlc
    ((reference, factor),) = dft.libxc.nlc_coeff("wb97x-v")
    assert sorted((b, c)) == pytest.approx(sorted(reference))
    assert coefficient == factor == 1
