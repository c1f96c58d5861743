"""Charge and spin from every way a frame states them."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from deeph_zero.data.reading.state import stated_state, warn_of_results
from deeph_zero.errors import InputError

O2 = [[0, 0, 0], [0, 0.1, 1.2]]


def state(info=None, symbols="O2", **arrays):
    said: list[str] = []
    atoms = Atoms(symbols, O2, info=info or {})
    for name, values in arrays.items():
        atoms.set_array(name, np.asarray(values))
    return stated_state(atoms, said.append), said


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, (None, None)),
        ({"charge": 1, "spin": 3}, (1, 3)),
        ({"charge": "-1.0"}, (-1, None)),
        ({"charge": np.array([2])}, (2, None)),
        ({"Charge": 1, "Multiplicity": 2}, (1, 1)),
        ({"total_charge": -2, "spin_multiplicity": 3}, (-2, 2)),
        ({"TotalCharge": 1, "uhf": 1}, (1, 1)),
        ({"mult": "3,"}, (None, 2)),
        ({"charge": 1, "net charge": 1.0}, (1, None)),
        ({"nelec": 15}, (1, None)),
        ({"nelec": (9, 7)}, (0, 2)),
        ({"key_value_pairs": {"charge": 1}, "data": {"multiplicity": 4}}, (1, 3)),
        ({"tot_charge": 1, "2S+1": 3}, (1, 2)),
        ({"charge": "\u22122"}, (-2, None)),
        ({"charge": None, "energy": -3.0, "charge_model": "hirshfeld"}, (None, None)),
    ],
)
def test_keys(info, expected):
    assert state(info) == (expected, [])


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"initial_magmoms": [1.0, 1.0]}, (None, 2)),
        ({"initial_magmoms": [1.0, -1.0]}, (None, 0)),
        ({"initial_magmoms": [-0.5, -0.5]}, (None, 1)),
        ({"initial_charges": [0.7, 0.301]}, (1, None)),
        ({"initial_charges": [0.0, 0.0]}, (None, None)),
        ({"formal_charges": [-1, 0]}, (-1, None)),
    ],
)
def test_arrays(arrays, expected):
    assert state(**arrays) == (expected, [])


@pytest.mark.parametrize(
    ("info", "arrays", "word"),
    [
        ({"total_spin": 1}, {}, "total_spin=1 is not used"),
        ({"charge_state": 2}, {}, "charge_state=2 is not used"),
        ({"nelec": 15.98}, {}, "nelec='15.98' is not used"),
        ({}, {"initial_charges": [0.3, 0.0]}, "initial_charges add up to 0.3 and are not used"),
        ({}, {"initial_magmoms": [[0, 0, 1.0], [0, 0, 1]]}, "initial_magmoms are vectors (non"),
        ({"S": 1}, {}, "S=1 is not used"),
        ({"q": 0.4}, {}, "q=0.4 is not used"),
        ({"title": "0 3 1"}, {}, "the beginning of the title '0 3 1' is not used"),
        ({"title": "a dication of O2"}, {}, "'dication' is not used; write charge="),
        ({"title": "state=triplet"}, {}, "'triplet' is not used; write spin="),
        ({"nalpha": 9}, {}, "nalpha=9 is not used"),
        ({"NELECT": 12}, {}, "NELECT=12 is not used"),
        ({"title": "ion of O2+"}, {}, "'O2+' is not used; write charge="),
        ({"title": "[O2]- in a trap"}, {}, "'[O2]-' is not used; write charge="),
        ({"title": "O2 2+"}, {}, "'2+' is not used; write charge="),
        ({"title": "0 2"}, {}, "the title '0 2' is not used"),
        ({"title": "40 1"}, {}, "the title '40 1' is not used"),
    ],
)
def test_what_is_not_used_is_said(info, arrays, word):
    found, said = state(info, **arrays)
    assert found == (None, None)
    assert [word in line for line in said] == [True]


@pytest.mark.parametrize(
    ("title", "expected"),
    [("0 3", (0, 2)), (" -1, 2 ", (-1, 1)), ("1\t4", (1, 3)), ("17", (None, None)),
     ("0;3", (0, 2)), ("run 0 3", (None, None)), ("0.0 3.0", (None, None))],
)  # fmt: skip
def test_a_title_of_two_integers(title, expected):
    found, said = state({"title": title})
    assert found == expected
    assert [f"multiplicity {expected[1] + 1}" in line for line in said] == (
        [True] if expected != (None, None) else []
    )


def test_a_short_key_is_the_charge_where_nothing_else_is():
    found, said = state({"q": -1, "S": 0})
    assert (found, said) == ((-1, None), ["q=-1 is read as the charge"])
    assert state({"q": 2, "charge": 1, "title": "cation"}) == ((1, None), [])
    assert state({"q": 0}) == ((0, None), [])


def test_a_title_yields_to_keys():
    found, said = state({"title": "0 3", "charge": 2})
    assert found == (2, None)
    assert ["another way" in line for line in said] == [True]


@pytest.mark.parametrize(
    ("info", "arrays", "words"),
    [
        ({"charge": 1, "total_charge": 2}, {}, ["charge=1", "total_charge=2"]),
        ({"spin": 2, "multiplicity": 2}, {}, ["spin=2", "multiplicity=2 (2S = 1)"]),
        ({"spin": 0}, {"initial_magmoms": [1, 1]}, ["spin=0", "the sum 2 of initial_magmoms"]),
        ({"charge": 0, "nelec": 15}, {}, ["charge=0", "nelec=15 (charge 1)"]),
        ({"charge": "1_0"}, {}, ["charge= with a whole number", "1_0"]),
        ({"multiplicity": 1.5}, {}, ["multiplicity= with a whole number", "1.5"]),
        ({"multiplicity": 0}, {}, ["of 1 or more, got 0"]),
        ({"charge": True}, {}, ["bare word 'charge'"]),
        ({"charge": 1 + 1j}, {}, ["whole number"]),
        ({"charge": 1e300}, {}, ["whole number"]),
    ],
)
def test_contradictions_and_no_numbers_are_errors(info, arrays, words):
    with pytest.raises(InputError) as caught:
        state(info, **arrays)
    assert [word for word in words if word not in str(caught.value)] == []
    assert len(str(caught.value).splitlines()) == 1


def test_results_that_add_up_to_another_state_are_said():
    atoms = Atoms("O2", O2)
    atoms.calc = SinglePointCalculator(atoms, charges=[0.6, 0.4], magmoms=[-1.0, 0.0])
    said: list[str] = []
    warn_of_results(atoms, 0, 0, said.append)
    assert ["charge=1" in said[0], "spin=1" in said[1], len(said)] == [True, True, 2]
    warn_of_results(atoms, 1, 1, said.append)
    assert len(said) == 2
