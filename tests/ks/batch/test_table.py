"""What the host reads of a stack: rows by name, what is not finite, and iterates made of them."""

import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.ks.batch.padded import PaddedOrbitals
from deeph_zero.ks.batch.table import Table, add_kind, numbers_of, state_of
from deeph_zero.ks.scf.iteration import State, Wanted


def test_rows_come_back_by_name():
    table = Table()
    table.add("energy", torch.tensor([1.0, 2.0]).double())
    table.add("nothing", None)
    table.add("levels", torch.arange(8.0).double().reshape(2, 2, 2))
    assert table.read() == {"energy": [[1.0], [2.0]], "levels": [[0, 1, 2, 3], [4, 5, 6, 7]]}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_end_the_computation(bad):
    table = Table()
    table.add("energy", torch.tensor([1.0, bad]).double())
    with pytest.raises(ComputationError, match="finite"):
        table.read()


def test_numbers_from_here_and_from_the_device():
    like = torch.zeros(1, dtype=torch.float64)
    scalars = [torch.tensor(x, dtype=torch.float64) for x in (1.5, -2.0)]
    assert numbers_of(scalars, like).tolist() == [1.5, -2.0]
    assert numbers_of([3.0, scalars[0]], like).tolist() == [3.0, 1.5]
    assert numbers_of([1.0], like).dtype == torch.float64


def test_determinants_are_told_from_mixtures(small, nspin, disturbed):
    layers = small(nspin)
    focks, dms = disturbed(layers)
    bucket = PaddedOrbitals(layers)
    scale = torch.tensor([1.0, 0.9, 1.0][: len(layers)]).double().reshape(-1, 1, 1, 1)
    table = Table()
    add_kind(table, bucket, bucket.padding.stack(dms) * scale)
    found = table.read()
    for k, layer in enumerate(layers):
        per_spin = layer.nelec if nspin == 2 else [2 * layer.nelec[0]]
        wanted = [float(scale[k]) * n for n in per_spin]
        assert found["count"][k] == pytest.approx(wanted, abs=1e-10)
        assert (found["excess"][k][0] < 1e-10) == (float(scale[k]) == 1)
    assert len(focks) == len(layers)


def test_an_iterate_is_that_of_the_molecule_alone(small, nspin, disturbed):
    layers = small(nspin)
    _, dms = disturbed(layers)
    for layer, dm in zip(layers, dms, strict=True):
        built = layer.build(dm)
        alone = State.of(layer, (dm, 0.0, built))
        orbitals = layer.orbitals(built.fock)
        square = float(alone.error.square().sum())
        own = {
            "energy": [alone.energy], "square": [square], "electrons": [alone.n_electrons],
            "levels": orbitals.mo_energy.flatten().tolist(), "products": [0.25, 9.0],
            "count": [float(x) for x in (layer.nelec if nspin == 2 else [2 * layer.nelec[0]])],
            "excess": [0.0],
        }  # fmt: skip
        wanted = Wanted(layer=layer, errors=(alone.error,))
        state = state_of(wanted, own, (built.fock, dm, alone.error))
        assert state.gradient_norm == pytest.approx(alone.gradient_norm, rel=1e-12)
        assert (state.energy, state.n_electrons) == (alone.energy, alone.n_electrons)
        assert state.products == [0.25, square]  # products beyond those remembered are padding
        assert state.determinant is True
        gaps = [e[n] - e[n - 1] for e, n in zip(orbitals.mo_energy, layer.nelec, strict=False)
                if 0 < n < len(e)]  # fmt: skip
        if gaps:
            assert state.gap == pytest.approx(float(min(gaps)), abs=1e-12)


def test_what_was_not_asked_for_is_not_there(small):
    layer = small(1)[1]
    dm = layer.dm_guess
    state = state_of(Wanted(layer=layer), {"energy": [0.0], "square": [2.0]}, (dm, dm, dm))
    assert state.gap is state.determinant is state.n_electrons is None
    assert state.gradient_norm == 1.0
    fewer = {"energy": [0.0], "square": [2.0], "count": [1.5], "excess": [0.0]}
    assert state_of(Wanted(layer=layer), fewer, (dm, dm, dm)).determinant is False
