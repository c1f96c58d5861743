"""Shapes in signatures: what each alias takes and refuses, one size for one letter."""

import dataclasses
import functools
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from beartype import beartype
from beartype.door import is_bearable

from deeph_zero import types
from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.integrals.periodic.folded_blocks import RealSpace
from deeph_zero.integrals.periodic.info import CrystalInfo
from deeph_zero.kohnsham.crystal_result import Bands, CrystalResult
from deeph_zero.kohnsham.k_path import KPath
from deeph_zero.kohnsham.sparse_bands import Frontier, LevelsNear
from deeph_zero.ks.layer import Orbitals
from deeph_zero.ks.periodic.data import CrystalData
from deeph_zero.ks.periodic.layer import CrystalBuild
from deeph_zero.ks.periodic.result import CrystalSCFResult
from deeph_zero.ks.populations import Populations
from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.response.nuclear import FockGradient
from deeph_zero.ks.response.stability import Stability
from deeph_zero.ks.scf.molecule_result import MoleculeResult
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.predict.crystal import CrystalPrediction
from deeph_zero.predict.crystal_sparse import SparsePrediction
from deeph_zero.predict.derivatives import Response, Vibrations
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
    assert repr(inner) == "Record(energy=-1.5, fock=[2, 3, 3], count=1.0)"
    outer = repr(Record(0.0, ones(3), ones(2), inner, ("gap",), "x"))
    assert outer == "Record(energy=0.0, fock=[3], count=[2], inner=Record, doubts=('gap',))"


@dataclasses.dataclass(repr=False, eq=False)
class Nested(types.Brief):
    parts: dict[str, torch.Tensor]
    levels: tuple[tuple[torch.Tensor, ...], ...]
    make: Callable[[], object]
    thing: object


def test_what_holds_arrays_prints_by_its_names_or_its_length():
    make = functools.partial(ones, torch.ones(3, 3))
    one = Nested({"e_core": ones(3), "e_xc": ones()}, ((ones(2),), (ones(2),)), make, object())
    assert repr(one) == "Nested(parts={e_core, e_xc}, levels=[2], make=partial, thing=object)"


RECORDS = [
    SCFResult, MoleculeResult, CrystalSCFResult, CrystalResult, Prediction, CrystalPrediction,
    SparsePrediction, FockGradient, FockBuild, CrystalBuild, Orbitals, Stability, Populations,
    Response, Vibrations, Bands, KPath, Frontier, LevelsNear, RealSpace, BlockMatrix, BlockPattern,
    KSData, CrystalData, CrystalInfo,
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS)
def test_what_users_get_prints_in_a_line_or_two(record):
    assert record.__repr__ is types.Brief.__repr__


@pytest.mark.parametrize("record", RECORDS)
def test_what_holds_arrays_is_equal_to_itself_alone(record):
    """Fields would be compared one by one, and arrays have no single answer."""
    assert (record.__eq__, record.__hash__) == (object.__eq__, object.__hash__)
