"""Kinds of molecules that break programs, each against PySCF's own SCF."""

import h5py
import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.data.structures import read_structures
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.integrals.mole import build_mole
from deeph_zero.jobs.predict import run_predict
from deeph_zero.kohnsham import KohnSham
from deeph_zero.model import load
from deeph_zero.settings.config import FitConfig, PredictConfig
from deeph_zero.train.fit import run_fit

# atoms, charge, spin, basis, functional, grid level
CASES = {
    "anion, diffuse": ("O 0 0 0; H .1 .2 .95", -1, 0, "def2-svpd", "pbe", 1),
    "anion, diffuse hybrid": ("O 0 0 0; H .1 .2 .95", -1, 0, "aug-cc-pvdz", "b3lyp", 1),
    "one atom": ("Ne .1 .2 .3", 0, 0, "def2-svp", "pbe", 2),
    "one electron, one atom": ("H .1 .2 .3", 0, 1, "def2-svp", "pbe", 2),
    "one electron, two atoms": ("H 0 0 0; H .1 .2 1.05", 1, 1, "def2-tzvp", "pbe0", 1),
    "f and g functions": ("B 0 0 .1; H .1 .2 1.3", 0, 0, "cc-pvqz", "pbe", 0),
    "hydrogen molecule": ("H 0 0 0; H .1 .2 .7", 0, 0, "sto-3g", "lda,vwn", 1),
    "ecp": ("I .1 0 0; H 0 .2 1.6", 0, 0, "def2-svp", "tpss", 1),
    "ecp of a metal": ("Ag .1 0 0; H 0 .2 1.65", 0, 0, "def2-svp", "pbe0", 1),
}
DEPENDENT = "H 0 0 0; H .1 .1 .3; H -.1 .2 .25; H .2 -.1 .1"
"""Atoms so close that their diffuse functions are nearly the same."""


def molecule(case):
    atom, charge, spin, basis, xc, level = CASES[case]
    heavy = [name for name in ("I", "Ag") if f"{name} " in atom]
    mol = gto.M(
        atom=atom,
        charge=charge,
        spin=spin,
        basis=basis,
        ecp=dict.fromkeys(heavy, basis),
        verbose=0,
    )
    return mol, xc, level


def converged(mol, xc, level):
    """PySCF's result."""
    mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc=xc).density_fit()
    mf.grids.level = level
    mf.conv_tol = 1e-11
    mf.kernel()
    assert mf.converged
    return mf


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES)
def test_energy_and_fock_equal_pyscf(case):
    mol, xc, level = molecule(case)
    mf = converged(mol, xc, level)
    ks = KohnSham.from_pyscf(mol, xc=xc, grid_level=level)
    result = ks.scf(conv_tol=1e-11)
    assert result.converged
    assert result.energy == pytest.approx(mf.e_tot, abs=1e-8)
    # at PySCF's density, so that what is left of either SCF does not matter
    built = ks.build(torch.from_numpy(np.asarray(mf.make_rdm1())))
    assert float(built.energy) == pytest.approx(mf.energy_tot(), abs=1e-9)
    fock = np.asarray(mf.get_fock())
    error = np.abs(built.fock.numpy() - fock).reshape(-1, *fock.shape[-2:]).max((1, 2))
    # without electrons a channel's potential hangs on rounding, in PySCF too (see test_layer.py)
    filled = [n > 0 for n in mol.nelec] if mol.spin else [True]
    assert error[filled].max() < 1e-9


@pytest.fixture(scope="module")
def dependent():
    """(molecule, PySCF's converged result) of a basis with dependent functions."""
    mol = gto.M(atom=DEPENDENT, basis="aug-cc-pvtz", verbose=0)
    return mol, converged(mol, "pbe", 0)


@pytest.mark.reference
def test_dependent_functions_are_dropped_as_pyscf_drops_them(dependent):
    mol, mf = dependent
    ks = KohnSham.from_pyscf(mol, grid_level=0)
    result = ks.scf(conv_tol=1e-11)
    assert result.converged
    assert ks.nmo == mf.mo_coeff.shape[1] < ks.nao
    assert result.energy == pytest.approx(mf.e_tot, abs=1e-8)
    np.testing.assert_allclose(result.mo_energy.numpy(), mf.mo_energy, atol=1e-5)


@pytest.mark.reference
def test_dropped_functions_flow_through_fit_and_predict(dependent, tmp_path):
    mol, mf = dependent
    lines = DEPENDENT.replace("; ", "\n")
    (tmp_path / "h4.xyz").write_text(f"4\n\n{lines}\n")
    (tmp_path / "run").mkdir()
    molecules, _ = read_structures([tmp_path / "h4.xyz"], allow_close_contacts=True)
    assert build_mole(molecules[0], basis="aug-cc-pvtz").nao == mol.nao
    method = {"basis": "aug-cc-pvtz", "grid_level": 0}
    config = FitConfig.parse({"method": method, "steps": 2, "runtime": {"device": "cpu"}})
    run_fit(
        config, molecules, [], tmp_path / "run", resume=False, reporter=SilentReporter(), command=""
    )
    run_predict(
        str(tmp_path / "run"),
        molecules,
        [],
        tmp_path / "out.h5",
        PredictConfig.parse({"refine": 1e-5, "runtime": {"device": "cpu"}}),
        reporter=SilentReporter(),
        command="",
    )
    nmo = mf.mo_coeff.shape[1]
    with h5py.File(tmp_path / "out.h5") as file:
        group = file["0000"]
        assert group["fock"].shape == group["overlap"].shape == (mol.nao, mol.nao)
        assert group["mo_energy"].shape == group["mo_occ"].shape == (nmo,)
    again = load(tmp_path / "run").predict(molecules[0], refine=1e-6, allow_close_contacts=True)
    refined = again.refined
    assert refined is not None
    assert refined.energy == pytest.approx(mf.e_tot, abs=1e-8)
    assert refined.mo_coeff.shape == (mol.nao, nmo)
