"""The slots that all elements share: each AO has one of its own, in e3nn's order of m."""

import json

import pytest

from deeph_zero.ao.convention import m_order
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError

SHELLS = {8: (0, 0, 2, 1, 1), 1: (0, 1), 3: (1, 0, 0, 0)}


@pytest.fixture
def layout():
    return BasisLayout.from_shells(SHELLS)


def test_slots_hold_the_largest_number_of_every_momentum(layout):
    assert layout.slots == (3, 2, 1)
    assert layout.slot_shells == (0, 0, 0, 1, 1, 2)
    assert layout.dim == 3 + 2 * 3 + 5
    assert layout.elements == (1, 3, 8)


@pytest.mark.parametrize("number", SHELLS)
def test_every_ao_has_a_slot_of_its_momentum_and_m(layout, number):
    places = layout.ao_slots(number)
    assert len(set(places)) == len(places) == sum(2 * l + 1 for l in SHELLS[number])
    starts = [sum(2 * l + 1 for l in layout.slot_shells[:k]) for k in range(6)]
    first = 0
    for l in SHELLS[number]:
        own = places[first : first + 2 * l + 1]
        in_e3nn_order = [own[k] for k in m_order(l)]
        start = in_e3nn_order[0]
        assert layout.slot_shells[starts.index(start)] == l
        assert in_e3nn_order == list(range(start, start + 2 * l + 1))
        first += 2 * l + 1


def test_shells_of_one_momentum_fill_slots_in_order(layout):
    lithium = layout.ao_slots(3)  # p, s, s, s
    assert lithium[3:] == (0, 1, 2)
    assert min(lithium[:3]) == 3


def test_json_brings_it_back(layout):
    assert BasisLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    roomy = BasisLayout.from_shells(SHELLS, slots=(5, 0, 1, 2))
    assert roomy.slots == (5, 2, 1, 2)
    assert BasisLayout.from_dict(json.loads(json.dumps(roomy.to_dict()))) == roomy


def test_elements_join_where_there_is_room(layout):
    more = layout.with_elements({6: (0, 0, 1)})
    assert more.slots == layout.slots
    assert more.ao_slots(8) == layout.ao_slots(8)
    with pytest.raises(InputError, match=r"need slots \(3, 3, 1\) per l, the layout has \(3, 2, 1"):
        layout.with_elements({6: (1, 1, 1)})


def test_sizes_follow_the_atoms(layout):
    assert layout.sizes([1, 8, 3]) == (4, 13, 6)
    assert layout.nao([1, 8, 3]) == 23
    with pytest.raises(InputError, match=r"one of the elements \[1, 3, 8\], got 6"):
        layout.sizes([1, 6])


@pytest.mark.parametrize(("shells", "words"), [({}, "at least one element"), ({1: ()}, "element 1"),
                                               ({1: (0,), 6: (0, -1)}, "element 6")])  # fmt: skip
def test_what_is_no_basis_is_refused(shells, words):
    with pytest.raises(InputError, match=words):
        BasisLayout.from_shells(shells)
