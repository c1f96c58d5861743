"""Derivatives of crystals: Fock matrix, response, density, smeared occupations, by differences."""

import numpy as np
import pytest
import torch
from pyscf.pbc import dft

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.calculation import crystal_calculation
from deeph_zero.integrals.periodic.system import crystal_data
from deeph_zero.ks.periodic.layer import CrystalLayer
from deeph_zero.ks.periodic.types import weighted_trace
from deeph_zero.ks.smearing import NO_ORBITAL

CASES = {
    "LDA, complex k": ("diamond", "lda,vwn", (3, 1, 1), False, {}),
    "PBE, real k": ("diamond", "pbe", (2, 1, 1), False, {}),
    "PBE, spins": ("diamond", "pbe", (3, 1, 1), True, {}),
    "r2SCAN, spins, dimension 2": ("slab", "r2scan", (3, 1, 1), True, {"dimension": 2}),
}


@pytest.fixture
def made(crystal, density):
    """A layer and a density matrix for one of the cases."""

    def make(case, **settings):
        name, xc, kmesh, spins, keywords = CASES[case]
        cell = crystal(name, ke_cutoff=12, **keywords)
        found = crystal_calculation(cell, xc=xc, kmesh=kmesh, unrestricted=spins)
        layer = CrystalLayer(crystal_data(found), **settings)
        dm = density(cell, found.kpoints.absolute(cell), nspin=layer.nspin)
        return layer, layer.checked(dm if layer.dtype.is_complex else dm.real.contiguous())

    return make


def _direction(like, seed):
    """A Hermitian matrix of the size of a density's change, of no special form."""
    generator = torch.Generator().manual_seed(seed)
    d = 0.1 * torch.randn(like.shape, generator=generator, dtype=like.dtype)
    return d @ like + like @ d.mH


def _difference(function, step=1e-3):
    """Five-point derivative at 0."""
    a, b, c, d = (function(t * step) for t in (1, -1, 2, -2))
    return (8 * (a - b) - (c - d)) / (12 * step)


@pytest.mark.parametrize("case", CASES)
def test_fock_and_response_are_derivatives(case, made):
    layer, dm = made(case)
    built = layer.build(dm)
    for seed in (1, 2):
        d = _direction(dm, seed)
        claimed = float(weighted_trace(layer.data.weights, built.fock, d))
        numeric = _difference(lambda t, d=d: float(layer.build(dm + t * d).energy))
        assert abs(claimed) > 1e-2
        assert claimed == pytest.approx(numeric, rel=1e-8)
    change = layer.response(dm, d)
    numeric = _difference(lambda t: layer.build(dm + t * d).fock)
    assert float(change.abs().max()) > 1e-2
    torch.testing.assert_close(change, numeric, rtol=0, atol=1e-7)


@pytest.mark.parametrize("case", ["PBE, real k", "PBE, spins"])
def test_autograd_follows_the_derivatives(case, made):
    """dL = Re Σ conj(gradient) dP for losses of the Fock matrix, once and twice."""
    layer, dm = made(case)
    weight, d = _direction(dm, 5), _direction(dm, 6)

    def loss(p):
        energy, fock = layer(p)
        residual = fock - weight
        return energy + (residual * residual.conj()).real.sum()

    def gradient(p, *, create_graph=False):
        leaf = p.detach().requires_grad_()
        (g,) = torch.autograd.grad(loss(leaf), leaf, create_graph=create_graph)
        return leaf, g

    _, g = gradient(dm)
    numeric = _difference(lambda t: float(loss(dm + t * d)))
    assert float((g.conj() * d).real.sum()) == pytest.approx(numeric, rel=1e-7)
    leaf, g = gradient(dm, create_graph=True)
    (twice,) = torch.autograd.grad((g.conj() * weight).real.sum(), leaf)
    numeric = _difference(lambda t: float((gradient(dm + t * d)[1].conj() * weight).real.sum()))
    assert float((twice.conj() * d).real.sum()) == pytest.approx(numeric, rel=1e-6)


SMEARED = [("PBE, spins", 0.05, False), ("PBE, spins", 0.05, True), ("LDA, complex k", 0.1, False),
           ("LDA, complex k", 0.0, False)]  # fmt: skip


@pytest.mark.parametrize(("case", "width", "fix_spin"), SMEARED)
def test_density_responds_with_the_chemical_potential(case, width, fix_spin, made):
    layer, dm = made(case, smearing=width, fix_spin=fix_spin)
    fock, d, weight = layer.build(dm).fock, 0.1 * _direction(dm, 3), _direction(dm, 4)
    w = layer.matrix_weights

    def loss(f):
        p = layer.density(f)
        return (w * weight.conj() * p).real.sum() + layer.entropy_energy(f) + p.abs().square().sum()

    def gradient(f):
        leaf = f.detach().requires_grad_()
        value = loss(leaf)
        (g,) = torch.autograd.grad(value, leaf, create_graph=True)
        return leaf, g

    leaf, g = gradient(fock)
    numeric = _difference(lambda t: float(loss(fock + t * d)))
    assert float((g.detach().conj() * d).real.sum()) == pytest.approx(numeric, rel=1e-7)
    (twice,) = torch.autograd.grad((g.conj() * weight).real.sum(), leaf)
    numeric = _difference(
        lambda t: float((gradient(fock + t * d)[1].detach().conj() * weight).real.sum())
    )
    assert float((twice.conj() * d).real.sum()) == pytest.approx(numeric, rel=1e-6)
    assert sum(layer.n_electrons(layer.density(fock))) == pytest.approx(8, abs=1e-10)


def test_the_free_energy_is_what_the_density_minimises(made):
    """Of electrons in a fixed F: A = tr(F P) - T S has no derivative at its own density."""
    layer, dm = made("PBE, spins", smearing=0.05)
    fock = layer.build(dm).fock
    leaf = fock.clone().requires_grad_()
    inside = weighted_trace(layer.data.weights, fock, layer.density(leaf))
    (energy,) = torch.autograd.grad(inside, leaf, retain_graph=True)
    (free,) = torch.autograd.grad(inside - layer.entropy_energy(leaf), leaf)
    assert float(energy.abs().max()) > 1e-2
    assert float(free.abs().max()) < 1e-11


@pytest.mark.parametrize("fix_spin", [False, True])
@pytest.mark.filterwarnings("ignore:.*spin.*:UserWarning")
def test_smeared_occupations_are_pyscfs(fix_spin, crystal, density):
    cell = crystal("lih", spin=1, ke_cutoff=12)
    kpts = cell.make_kpts([3, 1, 1], wrap_around=True)
    mf = dft.KUKS(cell, kpts, xc="lda,vwn").smearing(0.1, fix_spin=fix_spin)
    mf.nelec = (8, 4)
    layer = CrystalLayer(
        crystal_data(crystal_calculation(mf)), smearing=mf.sigma, fix_spin=fix_spin
    )
    dm = density(cell, kpts, nspin=2)
    fock = layer.build(dm).fock
    e, c = mf.eig(fock.numpy(), mf.get_ovlp())
    occ = np.array(mf.get_occ(e, c))
    found = layer.bands(fock)
    np.testing.assert_allclose(found.mo_energy.numpy(), np.array(e), atol=1e-9)
    np.testing.assert_allclose(found.filling.occ.numpy(), occ, atol=1e-8)
    assert found.filling.entropy_energy == pytest.approx(mf.entropy * mf.sigma, abs=1e-9)
    np.testing.assert_allclose(
        layer.density(fock).numpy(), np.array(mf.make_rdm1(np.array(c), occ)), atol=1e-8
    )
    assert float(layer.entropy_energy(fock)) == pytest.approx(mf.entropy * mf.sigma, abs=1e-9)


def test_levels_are_filled_over_all_k(made):
    """One Fermi level: the k-points hold different numbers of electrons."""
    layer, dm = made("LDA, complex k")
    fock = layer.build(dm).fock.clone()
    fock[0, 0] -= 10 * layer.data.ovlp[0]  # far below everything at the other k-points
    filling = layer.bands(fock, degeneracy_tol=0.0).filling
    per_k = filling.occ.sum(-1)[0]
    assert float((per_k * layer.data.weights).sum()) == pytest.approx(8)
    assert float(per_k[0]) == pytest.approx(16)
    assert float(per_k[1]) == pytest.approx(4)
    assert filling.gap > 0


def test_dependent_functions_are_left_out_where_they_are_dependent(crystal):
    """PySCF's rule at each k: the same levels, with nothing below the threshold."""
    basis = {"He": [[0, [2.0, 1.0]], [0, [0.3, 1.0]], [0, [0.25, 1.0]]]}
    cell = crystal("helium", basis=basis, ke_cutoff=12)
    kpts = cell.make_kpts([2, 1, 1])
    data = crystal_data(crystal_calculation(dft.KRKS(cell, kpts, xc="lda,vwn")))
    smallest = torch.linalg.eigvalsh(data.ovlp).min(-1).values
    threshold = float(smallest.mean())
    layer = CrystalLayer(_with(data, lindep_threshold=threshold))
    fock = layer.starting_fock()
    levels = layer.bands(fock).mo_energy[0]
    counts = [int((k < NO_ORBITAL).sum()) for k in levels]
    assert sorted(counts) == [2, 3]
    for k in range(2):
        s, f = data.ovlp[k].numpy(), fock[0, k].numpy()
        v, u = np.linalg.eigh(s)
        x = (u / np.sqrt(v))[:, v > threshold]
        expected = np.linalg.eigvalsh(x.conj().T @ f @ x)
        np.testing.assert_allclose(levels[k][: counts[k]].numpy(), expected, atol=1e-10)
    assert sum(layer.n_electrons(layer.density(fock))) == pytest.approx(2, abs=1e-10)


def _with(data, **changes):
    from dataclasses import replace

    return replace(data, **changes)


def test_a_singular_overlap_is_refused(crystal):
    basis = {"He": [[0, [2.0, 1.0]], [0, [0.3, 1.0]], [0, [0.2999, 1.0]]]}
    cell = crystal("helium", basis=basis, ke_cutoff=12)
    with pytest.raises(InputError, match="overlap with eigenvalues above 1e-07"):
        CrystalLayer(crystal_data(crystal_calculation(cell)))


def test_shapes_that_do_not_fit_are_refused(made):
    layer, dm = made("PBE, real k")
    with pytest.raises(InputError, match=r"shape \[1, 2, 8, 8\]"):
        layer(dm[:, :1])
    with pytest.raises(InputError, match="imaginary"):
        layer(dm + 0.1j * torch.ones_like(dm))
    with pytest.raises(InputError, match=r"got \[2, 8, 8\]"):
        layer(dm[0])  # only the façade takes matrices without a spin axis
    energy, _ = layer(dm.to(torch.complex128))
    assert float(energy) == pytest.approx(float(layer(dm)[0]), abs=1e-12)
