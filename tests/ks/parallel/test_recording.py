"""Recorded functions: bit for bit what Python computes, or left alone."""

import pytest
import torch

from deeph_zero.ks.grid import maps
from deeph_zero.ks.parallel.recording import recorded
from deeph_zero.ks.xc import functional as xc_functional
from deeph_zero.ks.xc.registry import COMPONENTS, combine

EXTREMES = (0.0, 1e-300, 1e-16, 1e-11, 1e-3, 1.0, 30.0, 1e6, 1e20, float("nan"), -1.0)


def recorded_groups():
    """Every functional with derivatives written by hand, by spin treatment."""
    for name in COMPONENTS:
        for unrestricted in (False, True):
            for group in combine([(name, 0.7)], unrestricted=unrestricted)._by_hand:
                yield pytest.param(group, unrestricted, id=f"{name}-{unrestricted}")


@pytest.mark.parametrize(("group", "unrestricted"), list(recorded_groups()))
def test_a_recorded_functional_has_the_same_bits(group, unrestricted, rng):
    kind = group[1][0][0].kind
    count = xc_functional.N_VARIABLES[kind][unrestricted]
    usual = torch.rand(count, 200, generator=rng, dtype=torch.float64)
    drawn = torch.randint(len(EXTREMES), (count, 300), generator=rng)
    extreme = torch.tensor(EXTREMES, dtype=torch.float64)[drawn]
    for raw in (usual, extreme, usual[:, :1], usual[:, :0]):
        want = xc_functional._first_by_hand(tuple(raw), group, unrestricted=unrestricted)
        run = xc_functional._recorded(group, unrestricted, count)
        assert run.__module__ == "deeph_zero.ks.parallel.recording"  # it was recorded
        found = run(*raw)
        assert len(found) == len(want)
        for a, b in zip(found, want, strict=True):
            assert torch.equal(a.isnan(), b.isnan())
            assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


def test_a_function_whose_operations_depend_on_values_is_not_recorded():
    def chooses(x):
        return (x + 1 if bool(x.sum() > 0) else x - 1,)

    assert recorded(chooses, (16,)) is chooses


def test_without_a_recorder_functions_run_from_python(monkeypatch):
    def twice(x):
        return (2 * x,)

    monkeypatch.delattr(torch.jit, "trace")
    assert recorded(twice, (16,)) is twice


@pytest.mark.parametrize("kind", ["LDA", "GGA", "MGGA"])
def test_recorded_maps_have_the_same_bits_for_every_size(kind, rng):
    ncomp = 1 if kind == "LDA" else 4
    for npoints, nloc, width in ((50, 7, 8), (3, 20, 16), (128, 1, 8)):
        rows = torch.randn(ncomp, nloc, npoints, generator=rng, dtype=torch.float64)
        orbitals = torch.randn(nloc, width, generator=rng, dtype=torch.float64)
        (want,) = maps._FEATURES_ON_CPU[kind](rows, orbitals)
        assert torch.equal(maps._recorded_features(kind)(rows, orbitals)[0], want)
        (stacked,) = maps._ORBITAL_FEATURES[kind](rows, orbitals)
        torch.testing.assert_close(stacked, want, rtol=1e-13, atol=1e-13)
        (matrix,) = maps._POTENTIAL[kind](rows, want)
        assert torch.equal(maps._recorded_potential(kind)(rows, want)[0], matrix)
        assert maps._recorded_potential(kind).__module__ == "deeph_zero.ks.parallel.recording"
        if kind == "MGGA":
            (by_panels,) = maps._mgga_potential_by_panels(rows, want)
            torch.testing.assert_close(by_panels, matrix, rtol=1e-12, atol=1e-9)
