"""Hints at open shells below closed ones: found where they are, silent where they are not."""

import logging

import numpy as np
import pytest
from pyscf import gto, scf

from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.response.open_shell import LOWER
from deeph_zero.testing import WATER

# far H2, a bent and stretched singlet carbene, O2: a UKS solution below; then ordinary molecules
BELOW = {
    "H2": "H 0 0 0; H 0.1 0.3 2.2",
    "CH2": "C 0 0 0.1; H 0 0.9 0.75; H 0.05 -0.86 0.72",
    "O2": "O 0 0 0; O 0.1 0.2 1.2",
    "N2": "N 0 0 0; N 0.1 0.2 1.75",
}
CLOSED = {
    "H2": "H 0 0 0; H 0.1 0.2 0.75",
    "water": WATER,
    "ethene": "C 0 0 0.66; C 0.02 0 -0.67; H 0 0.92 1.23; H 0 -0.93 1.24; H 0 0.93 -1.23; "
    "H 0.03 -0.92 -1.25",
    "formaldehyde": "C 0 0 0; O 0.02 0 1.21; H 0 0.94 -0.58; H 0 -0.93 -0.6",
    "LiH": "Li 0 0 0; H 0.1 0.2 1.58",
    "HF": "H 0 0 0; F 0.1 0.2 0.9",
}
XC = ["pbe", "b3lyp", "hf"]


def layer(atoms, xc, **settings):
    mol = gto.M(atom=atoms, basis="6-31g", verbose=0)
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=0, **settings)


@pytest.mark.parametrize("xc", XC)
@pytest.mark.parametrize("name", BELOW)
def test_an_instability_is_found(name, xc):
    ks = layer(BELOW[name], xc)
    found = ks.scf(hint=False)
    before = ks.fock_builds
    value = ks.spin_instability(found.dm, found.fock)
    exact = ks.stability(found.dm, found.fock)
    assert exact.external is not None
    assert value is not None
    assert exact.external - 1e-3 < value < LOWER  # a Ritz value, above the lowest eigenvalue
    assert ks.fock_builds > before
    # and the energy it promises is there
    lower = layer(BELOW[name], xc, unrestricted=True).scf(exact.dm_external, leave_saddles=True)
    assert lower.energy < found.energy - 1e-4


@pytest.mark.parametrize("xc", XC)
@pytest.mark.parametrize("name", CLOSED)
def test_ordinary_molecules_cost_no_build_and_get_no_hint(name, xc):
    ks = layer(CLOSED[name], xc)
    found = ks.scf(hint=False)
    before = ks.fock_builds
    assert ks.spin_instability(found.dm, found.fock) is None
    assert ks.stability(found.dm, found.fock).external > (-0.01 if xc == "hf" else 0)
    if xc != "hf":  # exact exchange brings every closed shell near to an instability
        ks.fock_builds = before
        ks.spin_instability(found.dm, found.fock)
        assert ks.fock_builds == before


def test_the_eigenvalue_is_that_of_pyscfs_triplet_stability():
    mol = gto.M(atom=BELOW["H2"], basis="6-31g", verbose=0)
    mf = scf.RHF(mol).run(conv_tol=1e-12)
    from pyscf.tdscf.rhf import gen_tdhf_operation

    product, diagonal = gen_tdhf_operation(mf, singlet=False)
    n = len(diagonal) // 2
    # (A + B) x from the products with (x, x); the second half has the other sign
    columns = [product(np.concatenate([e, e])[None])[0, :n] for e in np.eye(n)]
    exact = float(np.linalg.eigvalsh(np.stack(columns))[0])
    ks = KohnSham.from_pyscf(mol, xc="hf", density_fit=False)
    found = ks.scf(conv_tol=1e-12, hint=False)
    value = ks.spin_instability(found.dm, found.fock)
    assert value == pytest.approx(exact, abs=2e-2)
    assert ks.stability(found.dm, found.fock, tol=1e-6).external == pytest.approx(exact, abs=1e-6)


def test_scf_says_so_and_counts_its_builds(caplog):
    ks = layer(BELOW["H2"], "pbe")
    with caplog.at_level(logging.WARNING, logger="deeph_zero"):
        with_hint = ks.scf()
        assert "break_symmetry=True" in caplog.text
        assert "ks.stability" in caplog.text
        assert with_hint.fock_builds == ks.fock_builds
        caplog.clear()
        quiet = layer(BELOW["H2"], "pbe").scf(hint=False)
        stable = layer(CLOSED["water"], "pbe").scf()
        triplet = layer(BELOW["H2"], "pbe", unrestricted=True).scf()
    assert caplog.text == ""
    assert quiet.fock_builds < with_hint.fock_builds
    assert quiet.energy == with_hint.energy
    assert stable.converged
    assert triplet.converged


def test_fractional_occupations_and_smearing_are_left_alone():
    ks = layer(BELOW["H2"], "pbe", smearing=0.02)
    found = ks.scf()
    assert ks.spin_instability(found.dm, found.fock) is None
    even = layer("C 0 0 0; C 0 0 1.3", "pbe")
    found = even.scf(degeneracy_tol=0.3)
    assert even.spin_instability(found.dm, found.fock) is None
