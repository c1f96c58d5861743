"""Every energy term of a crystal, one row each: PySCF's value, and each term's own derivatives."""

import gc
import importlib
import pkgutil
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pyscf.pbc import dft, gto

import deeph_zero.ks.periodic.terms as folder
from deeph_zero.integrals.periodic.calculation import crystal_calculation
from deeph_zero.integrals.periodic.system import crystal_data
from deeph_zero.ks.periodic.layer import CrystalLayer
from deeph_zero.ks.periodic.terms.on_mesh import MeshTerm
from deeph_zero.ks.periodic.terms.potential import Potential
from deeph_zero.ks.periodic.types import weighted_trace
from deeph_zero.ks.terms.term import Density, Term
from deeph_zero.ks.terms.terms import change, total

STEP = 1e-3
XC = "pbe0"
at_k = Density.at_k_points


def with_trace(mf, fock, dm, factor=1.0):
    """Energy and matrices of something linear: what PySCF sums over k-points of equal weight."""
    fock = np.broadcast_to(fock, dm.shape)
    energy = factor * np.einsum("skij,skji->", fock, dm).real / len(mf.kpts)
    return energy, fock


def coulomb(mf, dm):
    vj, _ = mf.with_df.get_jk(dm, kpts=mf.kpts, with_k=False)
    return with_trace(mf, np.sum(vj, axis=0), dm, 0.5)


def exchange(mf, dm):
    _, vk = mf.with_df.get_jk(dm, kpts=mf.kpts, with_j=False, exxdiv="ewald")
    share = mf._numint.hybrid_coeff(XC) * (-0.5 if len(dm) == 1 else -1.0)
    return with_trace(mf, share * np.asarray(vk), dm, 0.5)


def semilocal(mf, dm):
    integrate = mf._numint.nr_rks if len(dm) == 1 else mf._numint.nr_uks
    given = dm[0] if len(dm) == 1 else dm
    _, energy, v = integrate(mf.cell, mf.grids, XC, given, kpts=mf.kpts)
    return energy, np.asarray(v).reshape(dm.shape)


def kinetic(mf, dm):
    return with_trace(mf, np.asarray(mf.cell.pbc_intor("int1e_kin", hermi=1, kpts=mf.kpts)), dm)


TABLE: dict[str, Callable] = {
    "kinetic_nonlocal": kinetic,
    "local": lambda mf, dm: with_trace(mf, np.asarray(mf.with_df.get_nuc(mf.kpts)), dm),
    "coulomb": coulomb,
    "xc": semilocal,
    "exchange": exchange,
    "ewald": lambda mf, _: (mf.energy_nuc(), None),
    "fitted coulomb": coulomb,
}
"""Energy and matrices of each term from PySCF: a new term is one row more."""

FIXED = {"kinetic_nonlocal", "local", "ewald"}
rows = pytest.mark.parametrize("name", TABLE)
spins = pytest.mark.parametrize("nspin", [1, 2])


def cell():
    helium = gto.Cell()
    helium.a, helium.atom, helium.unit = [[2.6, 0, 0], [0, 2.8, 0], [0.3, 0, 3]], "He .1 .2 .3", "A"
    helium.basis = {"He": [[0, [2.0, 1.0]], [0, [0.6, 1.0]], [1, [0.8, 1.0]]]}
    helium.mesh, helium.precision, helium.verbose = [9, 9, 11], 1e-5, 0
    return helium.build()


@pytest.fixture(scope="module")
def cases():
    """PySCF's object, layer, density and two changes of it; by fitting as well."""
    out = {}
    helium = cell()
    kpts = helium.make_kpts([3, 1, 1])
    for nspin in (1, 2):
        for fitted in (False, True):
            mf = (dft.KRKS if nspin == 1 else dft.KUKS)(helium, kpts, xc=XC)
            mf = mf.density_fit() if fitted else mf
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                layer = CrystalLayer(crystal_data(crystal_calculation(mf)))
            out[nspin, fitted] = (mf, layer, *matrices(layer, helium, kpts))
    yield out
    # PySCF leaves the files of its fitted integrals to the garbage collector, which warns
    out.clear()
    del mf, layer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def matrices(layer, cell, kpts):
    """A density alike at k and -k but of no symmetry, and two changes that keep it of orbitals."""
    generator = torch.Generator().manual_seed(5)
    shape = (2, layer.nspin, 1, layer.nao, layer.nao)
    phases = torch.from_numpy(np.sin(2 * np.pi * cell.get_scaled_kpts(kpts).sum(-1)))
    made = []
    for _ in range(3):
        even, odd = torch.randn(shape, generator=generator, dtype=torch.float64)
        made.append(torch.complex(even.expand(-1, layer.nk, -1, -1), odd * phases[:, None, None]))
    f, *noise = made
    dm = layer.density(f + f.mH)
    return dm, *(0.1 * (a @ dm + dm @ a.mH) for a in noise)


def term_of(layer, name):
    """The term of a row; one of the grid's alone where it shares the pass with others."""
    name = name.split()[-1]
    on_mesh = layer.data.mesh_term
    for one in on_mesh.potentials:
        if one.name == name:
            return MeshTerm(on_mesh.grid, on_mesh.weights, on_mesh.weight, [one])
    (found,) = [term for term in layer.terms if term.name == name]
    return found


def difference(matrix_at):
    """Five-point derivative at zero; error of order STEP⁴."""
    f = [matrix_at(t * STEP) for t in (1, -1, 2, -2)]
    return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP)


def assert_close(found, wanted, tolerance):
    """Equal, and not because both are zero."""
    found, wanted = (torch.as_tensor(np.asarray(x)) for x in (found, wanted))
    size = float(wanted.abs().max())
    assert size > 1e-6
    assert float((found - wanted).abs().max()) < tolerance * max(size, 1.0)


def case_of(cases, name, nspin):
    return cases[nspin, name.startswith("fitted")]


def test_every_term_has_a_row(cases):
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    kinds = {type(term_of(cases[1, n.startswith("fitted")][1], n)) for n in TABLE}
    ours = {k for k in Term.__subclasses__() if k.__module__.startswith(folder.__name__)}
    assert kinds == ours
    layer = cases[1, False][1]
    assert layer.build(cases[1, False][2]).parts.keys() == TABLE.keys() - {"fitted coulomb"}
    assert all(isinstance(one, Potential) for one in layer.data.mesh_term.potentials)


@spins
@rows
def test_energy_and_fock_equal_pyscf(cases, name, nspin):
    mf, layer, dm, *_ = case_of(cases, name, nspin)
    energy, fock = TABLE[name](mf, dm.numpy())
    found = term_of(layer, name).energy_and_fock(at_k(dm))
    assert_close(found.energy, float(np.real(energy)), 1e-10)
    assert float(layer.build(dm).parts[name.split()[-1]]) == pytest.approx(float(found.energy))
    if fock is None:
        assert found.fock is None
    else:
        fock = 0.5 * (fock + fock.conj().swapaxes(-1, -2))
        assert_close(found.fock.expand_as(dm), np.ascontiguousarray(fock), 1e-10)


@spins
@rows
def test_fock_is_the_derivative_of_the_energy(cases, name, nspin):
    _, layer, dm, d1, _ = case_of(cases, name, nspin)
    term = term_of(layer, name)
    slope = difference(lambda t: term.energy_and_fock(at_k(dm + t * d1)).energy)
    fock = term.energy_and_fock(at_k(dm)).fock
    if fock is None:
        assert float(slope) == 0.0
    else:
        assert_close(weighted_trace(layer.data.weights, fock, d1), slope, 1e-8)


@spins
@rows
def test_response_is_the_derivative_of_the_fock(cases, name, nspin):
    _, layer, dm, d1, d2 = case_of(cases, name, nspin)
    term = term_of(layer, name)
    found = term.response(at_k(dm), at_k(d1))
    if name in FIXED:
        assert found is None or not found.any()
        one, two = (term.energy_and_fock(at_k(x)).fock for x in (dm, dm + d1))
        assert (one is two is None) or torch.equal(one, two)
        return
    assert_close(found, difference(lambda t: term.energy_and_fock(at_k(dm + t * d1)).fock), 1e-8)
    w, back = layer.data.weights, term.response(at_k(dm), at_k(d2))
    assert_close(weighted_trace(w, found, d2), weighted_trace(w, back, d1), 1e-10)


@spins
@rows
def test_second_response_is_the_derivative_of_the_response(cases, name, nspin):
    _, layer, dm, d1, d2 = case_of(cases, name, nspin)
    term = term_of(layer, name)
    found = term.second(at_k(dm), at_k(d1), at_k(d2))
    if name == "xc":
        along = at_k(d1)
        assert_close(found, difference(lambda t: term.response(at_k(dm + t * d2), along)), 1e-7)
    else:
        assert found is None or not found.any()


@spins
@pytest.mark.parametrize("fitted", [False, True])
def test_a_build_is_the_sum_of_its_terms(cases, nspin, fitted):
    _, layer, dm, d1, _ = cases[nspin, fitted]
    layer.shift = 0.1 * (d1 + d1.mH)
    try:
        built, found = layer.build(dm), total(layer.terms, at_k(dm))
        alone = [term.energy_and_fock(at_k(dm)) for term in layer.terms]
        moved = layer.response(dm, d1)
    finally:
        layer.shift = None
    assert built.parts["shift"] != 0
    assert_close(built.energy, sum(one.energy for one in alone), 1e-12)
    assert_close(built.energy, sum(found.parts.values()), 1e-12)
    assert_close(built.fock, sum(one.fock for one in alone if one.fock is not None), 1e-12)
    assert_close(moved, change(layer.data.terms, at_k(dm), at_k(d1)), 1e-12)
    if not fitted:
        assert built.n_electrons == pytest.approx(2.0, rel=0.1)  # a coarse grid


def test_a_spin_without_electrons_exchanges_nothing(cases):
    _, layer, dm, *_ = cases[2, False]
    term = term_of(layer, "exchange")
    alone = dm * torch.tensor([1.0, 0.0]).reshape(-1, 1, 1, 1)
    found, both = (term.energy_and_fock(at_k(x)).fock for x in (alone, dm))
    assert_close(found[0], both[0], 1e-14)
    assert not found[1].any()
