"""Shapes in signatures: what each alias takes and refuses, one size for one letter."""

import dataclasses

import jaxtyping
import pytest
import torch
from beartype import beartype
from beartype.door import is_bearable

from deeph_zero import types
from deeph_zero.kohnsham.crystal_result import CrystalResult
from deeph_zero.ks.periodic.result import CrystalSCFResult
from deeph_zero.ks.response.nuclear import FockGradient
from deeph_zero.ks.scf.molecule_result import MoleculeResult
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.predict.crystal import CrystalPrediction
from deeph_zero.predict.single import Prediction


def ones(*shape, dtype=torch.float64):
    return torch.ones(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("alias", "tensor", "fits"),
    [
        ("AOMatrix", ones(3, 3), True),
        ("AOMatrix", ones(2, 3, 3), True),
        ("AOMatrix", ones(3, 4), False),
        ("AOMatrix", ones(3), False),
        ("AOMatrix", ones(3, 3, dtype=torch.long), False),
        ("AOMatrix", ones(3, 3, dtype=torch.complex128), False),
        ("PackedFit", ones(5, 6), True),
        ("PackedFit", ones(5), False),
        ("Features", ones(1, 4, 7), True),
        ("Features", ones(4, 7), False),
        ("SpinMatrix", ones(1, 3, 3), True),
        ("SpinMatrix", ones(5, 2, 3, 3), True),
        ("SpinMatrix", ones(3, 3), False),
        ("TermMatrix", ones(1, 4, 3, 3, dtype=torch.complex128), True),
        ("TermMatrix", ones(1, 4, 3, 2), False),
        ("SpinOrbitals", ones(1, 5, 4), True),
        ("SpinOrbitals", ones(5, 4), False),
        ("Coordinates", ones(3, 3), True),
        ("Coordinates", ones(3, 2), False),
        ("Numbers", ones(3, dtype=torch.long), True),
        ("Numbers", ones(3), False),
        ("Scalar", ones(), True),
        ("Scalar", ones(1), False),
        ("PerMolecule", ones(), True),
        ("PerMolecule", ones(5), True),
    ],
)
def test_an_alias_takes_its_shape_only(alias, tensor, fits):
    assert is_bearable(tensor, getattr(types, alias)) is fits


def test_letters_are_one_size_within_a_call():
    @jaxtyping.jaxtyped(typechecker=beartype)
    def trace(dm: types.AOMatrix, orbitals: types.Orbitals) -> types.Scalar:
        return dm.sum() + orbitals.sum()

    assert float(trace(ones(3, 3), ones(3, 2))) == 15
    assert float(trace(ones(2, 3, 3), ones(2, 3, 2))) == 30
    for wrong in (ones(4, 2), ones(2, 3, 2)):
        with pytest.raises(jaxtyping.TypeCheckError):
            trace(ones(3, 3), wrong)


@dataclasses.dataclass(repr=False)
class Record(types.Brief):
    energy: float
    fock: torch.Tensor
    count: torch.Tensor
    inner: "Record | None" = None
    doubts: tuple[str, ...] = ()
    source: str = dataclasses.field(default="", repr=False)


def test_a_record_prints_arrays_by_their_shapes():
    inner = Record(-1.5, ones(2, 3, 3), ones())
    assert (
        repr(inner) == "Record(energy=-1.5, fock=[2, 3, 3], count=tensor(1., dtype=torch.float64))"
    )
    outer = repr(Record(0.0, ones(3), ones(2), inner, ("gap",), "x"))
    assert outer == "Record(energy=0.0, fock=[3], count=[2], inner=Record, doubts=('gap',))"


@pytest.mark.parametrize(
    "record",
    [SCFResult, MoleculeResult, CrystalSCFResult, CrystalResult, Prediction, CrystalPrediction,
     FockGradient],
)  # fmt: skip
def test_what_users_get_prints_in_a_line_or_two(record):
    assert record.__repr__ is types.Brief.__repr__
