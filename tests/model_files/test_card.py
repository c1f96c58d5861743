"""What a card says of molecules beside those its errors were measured on."""

import numpy as np
import pydantic
import pytest

from deeph_zero.model_files.card import Card, longest_step, symbols
from deeph_zero.molecule import Molecule
from deeph_zero.units import BOHR_IN_ANGSTROM

WORDS = {
    "kind": "deeph-zero card",
    "format_version": 1,
    "name": "small-pbe",
    "title": "small molecules",
    "license": "Apache-2.0",
    "method": {"xc": "pbe", "basis": "def2-svp"},
    "inputs": "geometry",
    "parameters": 10,
    "bytes": 100,
    "trained": "here",
    "data": "made",
    "training": {"structures": 5, "atoms": [1, 4], "with_element": {"H": 5}},
    "domain": {"elements": ["H", "O"], "states": [[0, 0], [1, 1]], "atoms": 4, "separation": 3.0},
}


def molecule(coords, *, charge=0, spin=0, numbers=None):
    angstrom = np.asarray(coords, dtype=float)
    numbers = np.array([8] + [1] * (len(angstrom) - 1)) if numbers is None else np.array(numbers)
    return Molecule(numbers=numbers, coords=angstrom / BOHR_IN_ANGSTROM, charge=charge, spin=spin)


WATER = [[0, 0, 0.1], [0, 0.8, 0.6], [0.1, -0.8, 0.5]]


def test_every_reason_is_named():
    card = Card.model_validate(WORDS)
    assert card.outside(molecule(WATER)) == []
    assert card.outside(molecule(WATER, charge=1, spin=1)) == []
    (state,) = card.outside(molecule(WATER, charge=-1, spin=1))
    assert state.startswith("charge -1 and spin 1, small-pbe knows charge 0 and spin 0, charge 1")
    far = [*WATER, [0, 0.8, 4.1], [0, 1.2, 4.1]]
    size, apart = card.outside(molecule(far))
    assert size == "5 atoms, small-pbe was checked on 4 at most"
    assert apart.startswith("parts 3.5 angstrom apart, small-pbe was trained on 3.0 at most")


def test_a_step_is_the_longest_on_the_way_not_the_distance():
    chain = np.array([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0.1, 0], [3.2, 0, 0]])
    assert longest_step(chain) == pytest.approx(np.hypot(1.2, 0.1))
    assert longest_step(chain[[2, 0, 3, 1]]) == pytest.approx(np.hypot(1.2, 0.1))
    assert longest_step(chain[:1]) == 0.0
    assert longest_step(np.vstack([chain, chain + np.array([0, 9.0, 0])])) == pytest.approx(
        8.9, abs=0.1
    )


def test_elements_stand_once_in_order():
    assert symbols(molecule([[0, 0, 0]] * 4, numbers=[8, 1, 6, 1])) == ["H", "C", "O"]


@pytest.mark.parametrize(
    "change",
    [{"format_version": 2}, {"inputs": "both"}, {"kind": "deeph-zero model"}, {"more": 1},
     {"bytes": -1}, {"title": ""}],
)  # fmt: skip
def test_other_cards_are_refused(change):
    with pytest.raises(pydantic.ValidationError):
        Card.model_validate(WORDS | change)
