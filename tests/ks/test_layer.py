"""The Kohn-Sham layer against PySCF and against its own derivatives."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto, scf

from deeph_zero.kohnsham import KohnSham
from deeph_zero.testing import WATER, assert_fock_is_gradient

CH2O = "C 0.01 0 0; O 0.02 0.03 1.2; H 0.93 0.05 -0.57; H -0.95 0.02 -0.6"
NO2 = "N 0.01 0 0; O 0.02 1.1 0.46; O -0.03 -1.12 0.43"
BENZENE = """C 1.39 0.01 0.0; C 0.69 1.2 0.02; C -0.7 1.21 0; C -1.4 0 0.01; C -0.69 -1.2 0;
C 0.7 -1.2 0.02; H 2.47 0.01 0; H 1.24 2.14 0.03; H -1.23 2.15 0; H -2.49 0 0; H -1.24 -2.14 0;
H 1.23 -2.15 0"""
HI = "I 0.02 0.01 0; H 0.1 0.2 1.6"

# molecule, charge, spin, basis (with ECP where the set has one)
SYSTEMS = {
    "water": (WATER, 0, 0, "def2-svp"),
    "formaldehyde": (CH2O, 0, 0, "def2-svp"),
    "no2": (NO2, 0, 1, "def2-svp"),
    "water cation": (WATER, 1, 1, "6-31g"),
    "hi (ecp)": (HI, 0, 0, "def2-svp"),
    "hydrogen atom": ("H 0.1 0.2 0.3", 0, 1, "def2-svp"),
}
TORCH = ["lda,vwn", "lda,vwn_rpa", "lda,pw", "pbe", "blyp", "b3lyp", "b3lyp5", "pbe0", "tpss"]


def mole(name, **kwargs):
    atom, charge, spin, basis = SYSTEMS[name]
    ecp = {"I": basis} if "I " in atom else {}
    return gto.M(atom=atom, charge=charge, spin=spin, basis=basis, ecp=ecp, verbose=0, **kwargs)


def mean_field(mol, xc, *, fit=True, level=1):
    mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc=xc)
    mf.grids.level = level
    return mf.density_fit() if fit else mf


def random_dm(mol, seed=0):
    """Idempotent density matrix from a randomly perturbed core Hamiltonian."""
    rng = np.random.default_rng(seed)
    h = scf.hf.get_hcore(mol)
    s = mol.intor("int1e_ovlp")
    dms = []
    for n in mol.nelec:
        noise = 0.3 * rng.standard_normal(h.shape)
        _, c = scf.hf.eig(h + s @ (noise + noise.T) @ s, s)
        dms.append(c[:, :n] @ c[:, :n].T)
    return np.stack(dms) if mol.spin else 2 * dms[0]


def derivative(fn, h=1e-2):
    """Five-point central difference at zero; error of order h⁴."""
    a, b, c, d = (float(fn(t * h)) for t in (1, -1, 2, -2))
    return (8 * (a - b) - (c - d)) / (12 * h)


def pyscf_energy_and_fock(mf, dm):
    hcore = mf.get_hcore()
    veff = mf.get_veff(dm=dm)
    return mf.energy_tot(dm=dm, h1e=hcore, vhf=veff), hcore + np.asarray(veff)


@pytest.mark.reference
@pytest.mark.parametrize("xc", TORCH)
@pytest.mark.parametrize("fit", [True, False], ids=["fitted", "exact"])
@pytest.mark.parametrize("name", ["water", "no2", "hi (ecp)", "hydrogen atom"])
def test_energy_and_fock_equal_pyscf(name, xc, fit):
    mol = mole(name)
    mf = mean_field(mol, xc, fit=fit)
    dm = random_dm(mol)
    energy, fock = KohnSham.from_pyscf(mf)(torch.from_numpy(dm))
    want_energy, want_fock = pyscf_energy_and_fock(mf, dm)
    assert abs(float(energy) - want_energy) < 1e-9
    error = np.abs(fock.numpy() - want_fock).reshape(-1, mol.nao, mol.nao).max((1, 2))
    # The potential of a spin channel without electrons hangs on the rounding of 1 - zeta, in
    # libxc as well: PySCF's own screened and unscreened Fock matrices differ there by 3e-6.
    occupied = [n > 0 for n in mol.nelec] if mol.spin else [True]
    assert error[occupied].max() < 1e-9
    assert np.isfinite(error).all()


@pytest.mark.reference
@pytest.mark.parametrize("xc", ["hse06", "camb3lyp", "wb97x", "m062x", "scan", "hf", "bp86"])
@pytest.mark.parametrize("name", ["formaldehyde", "water cation"])
def test_functionals_through_libxc_and_range_separation_equal_pyscf(name, xc):
    mol = mole(name)
    mf = mean_field(mol, xc)
    dm = random_dm(mol)
    energy, fock = KohnSham.from_pyscf(mf)(torch.from_numpy(dm))
    want_energy, want_fock = pyscf_energy_and_fock(mf, dm)
    assert abs(float(energy) - want_energy) < 1e-9
    assert np.abs(fock.numpy() - want_fock).max() < 1e-9


@pytest.mark.reference
def test_molecule_and_mean_field_constructors_agree(water):
    mf = dft.RKS(water, xc="pbe0").density_fit()
    dm = torch.from_numpy(random_dm(water))
    e1, f1 = KohnSham.from_pyscf(mf)(dm)
    e2, f2 = KohnSham.from_pyscf(water, xc="pbe0")(dm)
    assert float(e1) == float(e2)
    assert torch.equal(f1, f2)


@pytest.mark.parametrize("xc", ["lda,vwn", "pbe", "tpss", "b3lyp", "camb3lyp", "hf"])
@pytest.mark.parametrize("name", ["water", "water cation"])
def test_fock_is_the_derivative_of_the_energy(name, xc):
    mol = mole(name)
    ks = KohnSham.from_pyscf(mol, xc=xc, grid_level=0)
    dm = torch.from_numpy(random_dm(mol))
    assert_fock_is_gradient(ks, dm)


@pytest.mark.parametrize("xc", ["lda,vwn", "pbe", "tpss", "pbe0", "m06l"])
@pytest.mark.parametrize("name", ["water", "water cation"])
def test_response_is_the_derivative_of_the_fock_and_self_adjoint(name, xc, rng):
    mol = mole(name)
    ks = KohnSham.from_pyscf(mol, xc=xc, grid_level=0)
    dm = torch.from_numpy(random_dm(mol))

    # P + t (A P + P Aᵀ) stays a sum of orbitals to first order: densities must not turn negative
    def direction():
        a = 0.1 * torch.randn(dm.shape, generator=rng, dtype=torch.float64)
        return a @ dm + dm @ a.mT

    g, k = direction(), direction()
    along = ks.response(dm, g)
    h = 1e-3
    focks = [ks.build(dm + x * h * g).fock for x in (1, -1, 2, -2)]
    numeric = (8 * (focks[0] - focks[1]) - (focks[2] - focks[3])) / (12 * h)
    assert float(along.abs().max()) > 1e-3
    assert float((along - numeric).abs().max()) < 2e-6 * float(along.abs().max())
    left, right = (along * k).sum(), (g * ks.response(dm, k)).sum()
    assert float(left - right) == pytest.approx(0.0, abs=1e-10 * float(left.abs()) + 1e-12)


@pytest.mark.parametrize("name", ["water", "water cation"])
def test_autograd_through_density_energy_and_fock(name, rng):
    """Directional derivatives of E(P(H)) and ‖H - F(P(H))‖² against central differences."""
    mol = mole(name)
    ks = KohnSham.from_pyscf(mol, xc="pbe", grid_level=0)
    start = ks.build(ks.data.dm_guess).fock
    step = 0.01 * torch.randn(start.shape, generator=rng, dtype=torch.float64)
    step = 0.5 * (step + step.mT)

    def losses(fock):
        energy, rebuilt = ks(ks.density(fock))
        return energy, (fock - rebuilt).square().sum()

    for which in range(2):

        def loss(fock, which=which):
            return losses(fock)[which]

        probe = start.clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss(probe), probe)
        numeric = derivative(lambda t, loss=loss: loss(start + t * step))
        assert float((grad * step).sum()) == pytest.approx(numeric, rel=1e-6)


def test_second_derivative_of_the_energy_through_the_density(rng):
    mol = mole("water cation")
    ks = KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0)
    start = ks.build(ks.data.dm_guess).fock
    u, v = (0.01 * torch.randn(start.shape, generator=rng, dtype=torch.float64) for _ in range(2))
    u, v = 0.5 * (u + u.mT), 0.5 * (v + v.mT)

    def slope(fock, create_graph=False):
        probe = fock if fock.requires_grad else fock.clone().requires_grad_()
        energy, rebuilt = ks(ks.density(probe))
        loss = energy + (rebuilt * u).sum()
        (grad,) = torch.autograd.grad(loss, probe, create_graph=create_graph)
        return (grad * u).sum()

    probe = start.clone().requires_grad_()
    (second,) = torch.autograd.grad(slope(probe, create_graph=True), probe)
    numeric = derivative(lambda t: slope(start + t * v))
    assert float((second * v).sum()) == pytest.approx(numeric, rel=1e-6)


def test_gradients_are_finite_for_degenerate_molecules():
    """Methane: triply degenerate levels below and above the gap."""
    mol = gto.M(
        atom="C 0 0 0; H .63 .63 .63; H -.63 -.63 .63; H -.63 .63 -.63; H .63 -.63 -.63",
        basis="def2-svp",
        verbose=0,
    )
    ks = KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0)
    fock = ks.scf().fock.requires_grad_()
    energy, rebuilt = ks(ks.density(fock))
    for loss in (energy, rebuilt.square().sum()):
        (grad,) = torch.autograd.grad(loss, fock, retain_graph=True)
        assert torch.isfinite(grad).all()
        assert float(grad.abs().max()) < 1e3


def test_a_nonsymmetric_density_is_symmetrised(water):
    ks = KohnSham.from_pyscf(water, xc="hf")
    dm = ks.data.dm_guess
    tilt = torch.zeros_like(dm)
    tilt[0, 1], tilt[1, 0] = 0.3, -0.3
    assert float(ks(dm + tilt)[0]) == pytest.approx(float(ks(dm)[0]), abs=1e-12)


def test_fock_builds_are_counted(water):
    ks = KohnSham.from_pyscf(water, xc="lda,vwn", grid_level=0)
    dm = ks.data.dm_guess
    ks(dm)
    ks.response(dm, dm)
    assert ks.fock_builds == 2
    result = ks.scf()
    assert ks.fock_builds == 2 + result.fock_builds == 3 + result.iterations
