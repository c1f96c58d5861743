"""Refinements in step: where each begins, what is told of it, and what is copied to the host."""

import dataclasses

import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.predict.answer import At
from deeph_zero.predict.refined_together import (
    MATRICES,
    builds_on_host,
    instability,
    refine_together,
    results_on_host,
)
from deeph_zero.predict.single import refine_best


def layer(atom, charge=0):
    mol = gto.M(atom=atom, basis="sto-3g", charge=charge, spin=charge, verbose=0)
    return KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0)


ATOMS = [
    ("Li 0 0 0; H 0.1 0.2 1.6", 0),
    ("Li 0 0 0; H 0.1 0.2 1.7", 1),
    ("H 0 0 0; H 0 0.1 0.8", 0),
]


@pytest.fixture
def layers():
    return [layer(*one) for one in ATOMS]


def points(layers, *, wild=()):
    """Nearly converged densities and builds; of the wild ones builds that are far off."""
    found = []
    for k, ks in enumerate(layers):
        dm = ks.scf(conv_tol=1e-3, conv_tol_grad=1e-2).dm
        built = ks.build(dm)
        if k in wild:
            off = torch.randn(dm.shape, generator=torch.Generator().manual_seed(k), dtype=dm.dtype)
            built = dataclasses.replace(built, fock=built.fock + 5 * (off + off.mT))
        found.append(At(ks, dm, built))
    return found


def test_each_is_refined_as_it_would_be_alone(layers):
    at = points(layers, wild={1})
    starts = [ks.build(ks.data.dm_guess) for ks in layers]
    batch = KohnShamBatch(layers)
    found = refine_together(batch, at, at, starts, tol=1e-5, compare_start=True)
    for k, (result, facts) in enumerate(found):
        wanted, expected = refine_best(
            layers[k], (at[k].dm, at[k].built), starts[k], tol=1e-5, compare_start=True
        )
        assert result.converged
        assert result.energy == pytest.approx(wanted.energy, abs=1e-8)
        # rounding decides a cycle that ends near the tolerance
        assert abs(result.iterations - wanted.iterations) <= 1
        assert facts.keys() == expected.keys()
        assert facts["standard_start"] == expected["standard_start"] == (k == 1)
        assert abs(facts["standard_iterations"] - expected["standard_iterations"]) <= 1
        assert facts["instability"] == pytest.approx(expected["instability"], abs=1e-6)


def test_superposed_atoms_nobody_built_are_no_free_start(layers):
    at = points(layers, wild={1})
    found = refine_together(
        KohnShamBatch(layers), at, at, [None] * 3, tol=1e-5, compare_start=False
    )
    assert [facts["standard_start"] for _, facts in found] == [False] * 3


@pytest.mark.parametrize("tol", [0.0, -1.0, float("nan")])
def test_a_tolerance_is_positive(layers, tol):
    at = [At(ks, ks.data.dm_guess, None) for ks in layers]
    with pytest.raises(InputError, match="positive tolerance to refine to"):
        refine_together(KohnShamBatch(layers), at, at, [None] * 3, tol=tol, compare_start=False)


def test_copies_to_the_host_keep_every_number(layers):
    builds = [ks.build(ks.data.dm_guess) for ks in layers]
    for one, other in zip(builds, builds_on_host(builds), strict=True):
        assert torch.equal(one.fock, other.fock)
        assert one.parts.keys() == other.parts.keys()
        assert [float(v) for v in one.parts.values()] == [float(v) for v in other.parts.values()]
        assert float(one.n_electrons) == float(other.n_electrons)
        assert float(one.energy) == float(other.energy)
    results = KohnShamBatch(layers).scf(max_cycle=2)
    for one, other in zip(results, results_on_host(results), strict=True):
        for name in MATRICES:
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert (one.energy, one.iterations) == (other.energy, other.iterations)
    assert builds_on_host([]) == results_on_host([]) == []


def test_an_open_shell_below_a_closed_one_is_found():
    """Stretched hydrogen, and not at its bond length; of an open shell nothing is asked."""
    for length, open_ in ((0.75, False), (2.6, True)):
        ks = layer(f"H 0 0 0; H 0.1 0 {length}")
        done = ks.scf(conv_tol=1e-9, conv_tol_grad=1e-6)
        found = instability(ks, ks, done.dm, done.fock)
        assert (found is not None) is open_
        assert found is None or found < 0
    ks = layer(*ATOMS[1])
    done = ks.scf()
    assert instability(ks, ks, done.dm, done.fock) is None
