"""Every energy term, one row each: PySCF's value, its own derivatives, batches against singles."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pyscf import dft, gto

import deeph_zero.ks.terms as folder
from deeph_zero.errors import InputError
from deeph_zero.integrals import corrections
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.terms.field import ElectricField
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Density, Term
from deeph_zero.ks.terms.terms import stacked_terms, terms_of
from deeph_zero.testing import WATER, assert_batch_equals_singles, assert_fock_is_gradient

FIELD = (0.011, -0.023, 0.017)
XC = "wb97x-v"  # a range-separated hybrid with VV10: with a field and D3 it has every term
SPINS = (0, 1)
STEP = 1e-3
HAS_DISPERSION = corrections.find_spec("pyscf.dispersion") is not None


def total(dm):
    return dm if dm.ndim == 2 else dm.sum(0)


def trace(fock, dm):
    """Energy and matrix of something that both spins feel."""
    return float(np.vdot(fock, total(dm))), fock


def coulomb(mf, dm):
    vj = mf.get_j(mf.mol, total(dm))
    return 0.5 * trace(vj, dm)[0], vj


def exchange(mf, dm):
    omega, alpha, hyb = mf._numint.rsh_and_hybrid_coeff(mf.xc)
    vk = hyb * mf.get_k(mf.mol, dm) + (alpha - hyb) * mf.get_k(mf.mol, dm, omega=omega)
    vk = -vk if dm.ndim == 3 else -0.5 * vk
    return 0.5 * float(np.vdot(vk, dm)), vk


def semilocal(mf, dm):
    integrate = mf._numint.nr_rks if dm.ndim == 2 else mf._numint.nr_uks
    return integrate(mf.mol, mf.grids, mf.xc, dm)[1:]


def vv10(mf, dm):
    return mf._numint.nr_nlc_vxc(mf.mol, mf.nlcgrids, mf.xc, total(dm))[1:]


def field(mf, dm):
    mol = mf.mol
    electrons, position = trace(np.einsum("x,xmn->mn", FIELD, mol.intor("int1e_r")), dm)
    return electrons - float(mol.atom_charges() @ mol.atom_coords() @ FIELD), position


TABLE: dict[str, Callable] = {
    "e_core": lambda mf, dm: trace(mf.get_hcore(), dm),
    "e_coul": coulomb,
    "e_exx": exchange,
    "e_xc": semilocal,
    "e_nlc": vv10,
    "e_nuc": lambda mf, _: (mf.energy_nuc(), None),
    "e_disp": lambda mf, _: (mf.get_dispersion(), None),
    "e_field": field,
}
"""Energy and Fock matrix of each term from PySCF: a new term is one row more."""

LINEAR = {"e_core", "e_coul", "e_exx", "e_field"}
CONSTANT = {"e_nuc", "e_disp"}
rows = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(not HAS_DISPERSION, reason="needs dispersion"))
        if name == "e_disp"
        else name
        for name in TABLE
    ],
)
spins = pytest.mark.parametrize("spin", SPINS)


def mean_field(atom, spin):
    mol = gto.M(atom=atom, basis="sto-3g", charge=spin, spin=spin, verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc=XC).density_fit()
    mf.grids.atom_grid = mf.nlcgrids.atom_grid = (12, 26)
    mf.disp = "d3bj:b3lyp" if HAS_DISPERSION else None
    return mf


@pytest.fixture(scope="module")
def cases():
    """Two molecules of different size per spin: PySCF's object, layer, densities, a direction."""
    out = {}
    for spin in SPINS:
        some = []
        for atom in ("F 0 0 .1; H .1 .3 .9", WATER):
            mf = mean_field(atom, spin)
            ks = KohnSham.from_pyscf(mf, field=FIELD)
            dm = ks.density(ks.build(ks.data.dm_guess).fock)
            some.append((mf, ks, dm, *directions(dm)))
        out[spin] = some
    return out


def directions(dm):
    """Changes that keep a density a sum of orbitals to first order."""
    generator = torch.Generator().manual_seed(1)
    noise = [0.1 * torch.randn(dm.shape, generator=generator, dtype=dm.dtype) for _ in range(2)]
    return [a @ dm + dm @ a.mT for a in noise]


def term_of(ks, name):
    (found,) = [term for term in terms_of(ks.data) if term.name == name]
    return found


def density(ks, dm):
    return Density(dm.reshape(-1, ks.nao, ks.nao))


def difference(matrix_at):
    """Five-point derivative at zero of a matrix; error of order STEP⁴."""
    f = [matrix_at(t * STEP) for t in (1, -1, 2, -2)]
    return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP)


def assert_close(found, wanted, tolerance):
    """Equal, and not because both are zero."""
    found, wanted = (torch.as_tensor(x, dtype=torch.float64) for x in (found, wanted))
    size = float(wanted.abs().max())
    assert size > 1e-6
    assert float((found - wanted).abs().max()) < tolerance * max(size, 1.0)


def test_every_term_has_a_row():
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")

    def below(kind):
        return {kind, *(one for sub in kind.__subclasses__() for one in below(sub))}

    kinds = {kind for kind in below(Term) if kind.__module__.startswith(folder.__name__)}
    named = {kind.name for kind in kinds if "name" in vars(kind)}
    assert named == TABLE.keys()


@spins
@rows
def test_energy_and_fock_equal_pyscf(cases, name, spin):
    mf, ks, dm, *_ = cases[spin][0]
    energy, fock = TABLE[name](mf, dm.numpy())
    found = term_of(ks, name).energy_and_fock(density(ks, dm))
    assert_close(found.energy, float(energy), 1e-9)
    assert float(ks.build(dm).parts[name]) == float(found.energy)
    if fock is None:
        assert found.fock is None
    else:
        both = found.fock.expand(spin + 1, -1, -1).reshape(dm.shape)
        assert_close(both, torch.from_numpy(np.broadcast_to(fock, dm.shape).copy()), 1e-9)


@spins
@rows
def test_fock_is_the_derivative_of_the_energy(cases, name, spin):
    _, ks, dm, *_ = cases[spin][0]
    term = term_of(ks, name)

    def energy_and_fock(matrix):
        found = term.energy_and_fock(density(ks, matrix))
        fock = torch.zeros_like(matrix) if found.fock is None else found.fock
        return found.energy, fock.expand(spin + 1, -1, -1).reshape(dm.shape)

    if name in CONSTANT:
        assert len({float(energy_and_fock(t * dm)[0]) for t in (0.5, 1.0)}) == 1
    else:
        assert_fock_is_gradient(energy_and_fock, dm)


@spins
@rows
def test_response_is_the_derivative_of_the_fock(cases, name, spin):
    _, ks, dm, d1, d2 = cases[spin][0]
    term = term_of(ks, name)
    found = term.response(density(ks, dm), density(ks, d1))
    if found is None:
        assert name in {"e_core", "e_field", *CONSTANT}
        one, two = (term.energy_and_fock(density(ks, x)).fock for x in (dm, dm + d1))
        assert one is two
        return
    assert_close(
        found,
        difference(lambda t: term.energy_and_fock(density(ks, dm + t * d1)).fock),
        1e-8,
    )
    back = (term.response(density(ks, dm), density(ks, d2)) * density(ks, d1).dm).sum()
    assert float((found * density(ks, d2).dm).sum()) == pytest.approx(float(back), rel=1e-9)


@spins
@rows
def test_second_response_is_the_derivative_of_the_response(cases, name, spin):
    _, ks, dm, d1, d2 = cases[spin][0]
    term = term_of(ks, name)
    found = term.second(density(ks, dm), density(ks, d1), density(ks, d2))
    assert (found is None) == (name in LINEAR | CONSTANT)
    if found is not None:
        assert_close(
            found,
            difference(lambda t: term.response(density(ks, dm + t * d2), density(ks, d1))),
            1e-7,
        )
    elif name in ("e_coul", "e_exx"):
        one, two = (term.response(density(ks, x), density(ks, d1)) for x in (dm, dm + d2))
        assert torch.equal(one, two)


@spins
@rows
def test_a_padded_stack_equals_its_molecules(cases, name, spin):
    molecules = cases[spin]
    padding = Padding([ks.nao for _, ks, *_ in molecules])
    (stack,) = stacked_terms([[term_of(ks, name)] for _, ks, *_ in molecules], padding)
    at, *along = (
        Density(padding.stack([one[k] for one in molecules]), factored=False) for k in (2, 3, 4)
    )
    found = stack.energy_and_fock(at)
    changes = found.fock, stack.response(at, along[0]), stack.second(at, *along)
    for k, (_, ks, dm, d1, d2) in enumerate(molecules):
        term, own = term_of(ks, name), [density(ks, x) for x in (dm, d1, d2)]
        wanted = term.energy_and_fock(own[0])
        assert_close(found.energy[k], wanted.energy, 1e-10)
        singles = wanted.fock, term.response(*own[:2]), term.second(*own)
        for many, one in zip(changes, singles, strict=True):
            assert (many is None) == (one is None)
            if one is not None:
                own_part = padding.split(many)[k]
                assert_close(own_part, one.expand_as(own_part), 1e-10)
                assert not many[k, :, ks.nao :].any()


@pytest.mark.parametrize("strategy", ["merged", "padded"])
@spins
def test_a_batch_equals_its_molecules(cases, spin, strategy):
    _, layers, dms, directions, _ = zip(*cases[spin], strict=True)
    assert_batch_equals_singles(layers, dms, directions, strategy=strategy)


def test_a_molecule_without_a_term_beside_one_that_has_it(cases):
    (_, ks, dm, *_), (mf, _, water, *_) = cases[0]
    plain = KohnSham.from_pyscf(mf)
    for strategy in ("merged", "padded"):
        assert_batch_equals_singles([plain, ks], [water, dm], strategy=strategy)


def test_what_is_no_further_term_is_refused(cases):
    _, ks, *_ = cases[0][0]
    for other, words in (
        (ElectricField(ks.data.ovlp, 0.0), "different names, got two 'e_field'"),
        (ks.data.ovlp, r"an energy term \(a Term\), got Tensor"),
    ):
        added = dataclasses.replace(ks.data, added=(*ks.data.added, other))
        with pytest.raises(InputError, match=words):
            terms_of(added)
