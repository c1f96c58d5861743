"""Molecules made ready together: each as it is alone, its light layer without integrals."""

import dataclasses

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared import several as module
from deeph_zero.prepared.molecule import TRAINING_GAP_FLOOR, basis_layout, kohn_sham, prepare
from deeph_zero.prepared.several import SMALL, on_processor, prepare_several

METHOD = Method(xc="lda,vwn", basis="sto-3g", grid_level=0)
CPU = torch.device("cpu")


def hydride(z, length, charge=0):
    coords = np.array([[0.1, 0.0, 0.2], [0.3, 0.1, 0.2 + length]])
    return Molecule(
        numbers=np.array([z, 1]), coords=coords, charge=charge, spin=charge, file=f"{z}.xyz"
    )


MOLECULES = [hydride(1, 1.4), hydride(3, 1.7), hydride(3, 1.9, charge=1)]
LAYOUT = basis_layout([build_mole(m, basis="sto-3g") for m in MOLECULES])


def together(spec, *, builds=True, molecules=MOLECULES):
    reading = Reading.of(spec, torch.float64)
    return prepare_several(molecules, METHOD, reading, device=CPU, builds=builds)


def alone(spec, molecule):
    return prepare(molecule, METHOD, Reading.of(spec, torch.float64))


def same_inputs(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(a, b, atol=1e-8, rtol=0, msg=field.name)


@pytest.mark.parametrize(
    ("inputs", "base", "balanced"),
    [
        ("physics", "dielectric", True),
        ("physics", "fock", False),
        ("geometry", "multipoles", True),
        ("geometry", "fock", False),
    ],
)
def test_each_is_as_it_is_alone(inputs, base, balanced):
    spec = default_spec(LAYOUT, "tiny", cutoff=8.0, inputs=inputs)
    spec = dataclasses.replace(spec, base=base, balanced=balanced)
    found = together(spec)
    assert found.batch is not None
    assert len(found.prepared) == len(found.batch) == 3
    for molecule, own in zip(MOLECULES, found.prepared, strict=True):
        one = alone(spec, molecule)
        assert own.molecule is molecule
        torch.testing.assert_close(own.fock0, one.fock0, atol=1e-8, rtol=0)
        same_inputs(own.inputs, one.inputs)
        assert (own.balance is None) is not balanced
        if balanced:
            torch.testing.assert_close(own.balance.inverse, one.balance.inverse)
        assert (own.start is None) is (inputs == "geometry")
        if own.start is not None:
            torch.testing.assert_close(own.start.fock, one.start.fock, atol=1e-9, rtol=0)
            moved = float((own.fock0 - own.start.fock).abs().max())
            assert (moved > 1e-3) is (base == "dielectric")


def test_nobody_asked_for_builds():
    spec = default_spec(LAYOUT, "tiny", cutoff=8.0, inputs="geometry")
    found = together(spec, builds=False)
    assert found.batch is None
    assert [own.ks.data.grid for own in found.prepared] == [None] * 3


def test_light_layers_say_what_the_whole_ones_do_and_build_nothing():
    whole = [kohn_sham(m, METHOD, gap_floor=TRAINING_GAP_FLOOR) for m in MOLECULES]
    for heavy, light in zip(whole, on_processor(whole), strict=True):
        for name in SMALL:
            assert torch.equal(getattr(light.data, name), getattr(heavy.data, name)), name
        assert torch.equal(light.x, heavy.x)
        assert light.info == heavy.info
        dm = heavy.data.dm_guess
        assert np.array_equal(light.dipole(dm), heavy.dipole(dm))
        fock = heavy.build(dm).fock
        torch.testing.assert_close(light.density(fock), heavy.density(fock))
        assert (light.data.grid, light.data.functional, light.data.exchange) == (None, None, ())
        with pytest.raises(Exception, match="integrals"):
            light.build(dm)


def test_a_start_that_is_not_finite_names_its_molecule(monkeypatch):
    real = module.to_host

    def spoilt(tensors):
        found = real(tensors)
        return [found[0], found[1] * torch.nan, *found[2:]] if len(found) == 3 else found

    monkeypatch.setattr(module, "to_host", spoilt)
    spec = default_spec(LAYOUT, "tiny", cutoff=8.0)
    with pytest.raises(ComputationError, match=r"3\.xyz frame 0: the Fock matrix of the atomic"):
        together(spec)


def test_undecided_levels_keep_their_first_matrix():
    """The hole of H2+ is clear, that of a far pair is not: only one of them takes the step."""
    far = hydride(1, 60.0, charge=1)
    spec = default_spec(LAYOUT, "tiny", cutoff=8.0)
    found = together(spec, molecules=[far, MOLECULES[1]])
    moved = [float((p.fock0 - p.start.fock).abs().max()) for p in found.prepared]
    for own, molecule, change in zip(found.prepared, [far, MOLECULES[1]], moved, strict=True):
        torch.testing.assert_close(own.fock0, alone(spec, molecule).fock0, atol=1e-8, rtol=0)
        assert change == pytest.approx(
            float((alone(spec, molecule).fock0 - own.start.fock).abs().max()), abs=1e-8
        )
    assert moved[1] > 1e-3
