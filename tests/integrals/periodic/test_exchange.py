"""Coulomb kernels of exact exchange against PySCF's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pyscf.pbc import dft, tools

from deeph_zero.integrals.libxc import describe
from deeph_zero.integrals.periodic.exchange import (
    PairMaker,
    fractions,
    has_exchange,
    mirror_mesh,
    probe_charge,
    whole_mesh,
)
from deeph_zero.integrals.periodic.kpoints import KPoints, make_kpoints


@pytest.mark.parametrize(
    ("xc", "parts"),
    [
        ("hf", [(0.0, 1.0)]),
        ("pbe0", [(0.0, 0.25)]),
        ("hse06", [(-0.11, 0.25)]),
        ("camb3lyp", [(0.0, 0.19), (0.33, 0.46)]),
        ("lc_vv10", None),
    ],
)
def test_kernels_of_functionals(xc, parts):
    spec = describe(xc)
    assert has_exchange(spec)
    found = fractions(spec)
    if parts is not None:
        np.testing.assert_allclose(found, parts, atol=1e-12)
    # at long and at short range they add up to what PySCF says
    omega, alpha, hyb = dft.numint.NumInt().rsh_and_hybrid_coeff(xc)
    short = sum(part for w, part in found if w <= 0)
    long = sum(part for w, part in found if w >= 0)
    assert short == pytest.approx(hyb)
    assert long == pytest.approx(alpha if omega else hyb)


def test_semilocal_functionals_have_none():
    assert not has_exchange(describe("pbe"))
    assert not has_exchange(describe("r2scan"))


@pytest.mark.parametrize("kmesh", [(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 3, 2)])
def test_the_whole_mesh_is_found_again(kmesh, crystal):
    origins, scaled = whole_mesh(make_kpoints(kmesh))
    cell = crystal("chain")
    wanted = cell.get_scaled_kpts(cell.make_kpts(kmesh))
    apart = scaled[:, None] - wanted[None]
    same = np.abs(apart - np.round(apart)).max(-1) < 1e-9
    assert same.sum(0).tolist() == same.sum(1).tolist() == [1] * len(wanted)
    kept = make_kpoints(kmesh).scaled
    for (index, conjugate), k in zip(origins, scaled, strict=True):
        apart = k - (-1) ** conjugate * kept[index]
        assert np.abs(apart - np.round(apart)).max() < 1e-9


def test_a_list_of_points_is_the_whole_mesh():
    points = KPoints(scaled=np.array([[0, 0, 0], [0.1, 0.2, 0]]), weights=np.full(2, 0.5))
    origins, scaled = whole_mesh(points)
    assert origins == [(0, False), (1, False)]
    np.testing.assert_array_equal(scaled, points.scaled)


def test_the_probe_charge_counts_the_whole_kernel_alone(crystal):
    cell = crystal("chain")
    _, whole = whole_mesh(make_kpoints((2, 1, 3)))
    constant = tools.pbc.madelung(cell, cell.get_abs_kpts(whole))
    for xc, share in (("hf", 1.0), ("pbe0", 0.25), ("camb3lyp", 0.19), ("hse06", 0.0)):
        assert probe_charge(cell, describe(xc), whole) == pytest.approx(share * constant)


@pytest.mark.parametrize(
    ("xc", "exxdiv"),
    [("pbe0", "ewald"), ("pbe0", "vcut_sph"), ("pbe0", None), ("hse06", "ewald"), ("hse06", None),
     ("camb3lyp", "ewald"), ("camb3lyp", None)],
)  # fmt: skip
def test_kernels_and_phases_of_pairs(crystal, xc, exxdiv):
    cell, mesh = crystal("chain"), (5, 6, 7)
    _, whole = whole_mesh(make_kpoints((2, 1, 2)))
    targets = np.array([[0.0, 0, 0], [0.2, 0.1, -0.3]])
    pair = PairMaker(
        cell, (describe(xc), exxdiv, False), mesh, targets=targets, whole=whole, device="cpu"
    )
    points = SimpleNamespace(kpts=cell.get_abs_kpts(whole), exxdiv=exxdiv)
    for target, other in ((0, 0), (0, 1), (1, 2)):
        q = cell.get_abs_kpts(whole[other] - targets[target])
        wanted = np.zeros(210)
        for omega, part in fractions(describe(xc)):
            with cell.with_range_coulomb(omega):
                wanted += part * tools.get_coulG(cell, q, exxdiv or False, points, mesh).real
        found = pair(target, other)
        np.testing.assert_allclose(found.kernel.numpy().ravel(), wanted, atol=1e-12)
        phase = np.exp(-1j * cell.get_uniform_grids(mesh) @ q)
        if found.phase is None:
            np.testing.assert_allclose(phase, 1, atol=1e-9)
        else:
            np.testing.assert_allclose(found.phase, phase, atol=1e-12)
    assert pair(0, 0).phase is None
    assert pair(0, 1) is pair(0, 1)


def test_an_element_that_is_left_out_is_the_probe_charge(crystal):
    """Of the whole kernel alone: Madelung's constant, times the volume of the whole mesh."""
    cell, mesh, spec = crystal("chain"), (5, 5, 5), describe("pbe0")
    _, whole = whole_mesh(make_kpoints((2, 1, 2)))
    kernels = [
        PairMaker(cell, (spec, "ewald", out), mesh, targets=whole, whole=whole, device="cpu")(0, 0)
        for out in (False, True)
    ]
    apart = (kernels[0].kernel - kernels[1].kernel).flatten()
    wanted = torch.zeros_like(apart)
    wanted[0] = probe_charge(cell, spec, whole) * cell.vol * len(whole)
    torch.testing.assert_close(apart, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mesh", [(6, 5, 4), (5, 7, 5)])
def test_kernels_for_both_of_k_and_minus_k(crystal, mesh):
    """A density's potential is the mean of its own at k and that of its conjugate at -k."""
    cell, spec = crystal("diamond"), describe("hf")
    kpoints = make_kpoints((2, 3, 1))
    _, whole = whole_mesh(kpoints)
    mirror = mirror_mesh(kpoints)
    away = whole + mirror
    np.testing.assert_allclose(away, np.round(away), atol=1e-12)
    assert mirror_mesh(make_kpoints((2, 3, 1), time_reversal=False)) is None
    targets, back = kpoints.scaled, kpoints.partners

    def maker(targets, whole, mirrored=None):
        how = (spec, None, False)
        return PairMaker(
            cell, how, mesh, targets=targets, whole=whole, device="cpu", mirrored=mirrored
        )

    def kept(some):
        return cell.get_scaled_kpts(cell.get_abs_kpts(some))

    both = maker(targets, whole, (back, mirror))
    here, there = maker(kept(targets), kept(whole)), maker(kept(back), kept(mirror))
    real = np.random.default_rng(0).normal(size=(2, np.prod(mesh)))
    rho = torch.from_numpy(real[0] + 1j * real[1])
    worst = 0.0
    for target in range(len(targets)):
        for other in range(len(whole)):
            one = _potential(here(target, other), rho)
            two = _potential(there(target, other), rho.conj()).conj()
            found = _potential(both(target, other), rho)
            torch.testing.assert_close(found, 0.5 * (one + two), rtol=0, atol=1e-11)
            worst = max(worst, float((one - two).abs().max()))
    assert worst > 1e-3  # the mesh is coarse enough to tell


def _potential(pair, rho):
    phase = torch.ones_like(rho) if pair.phase is None else pair.phase
    waves = torch.fft.fftn((phase * rho).reshape(pair.kernel.shape))
    return phase.conj() * torch.fft.ifftn(waves * pair.kernel).flatten()
