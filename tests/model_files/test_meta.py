"""What model.json says of a problem, and which charge and spin follow from it."""

import numpy as np
import pytest

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.model_files.meta import (
    SLACK,
    asked_state,
    crystal_meta,
    default_state,
    is_of_crystals,
    state_line,
)
from deeph_zero.molecule import Molecule, State
from deeph_zero.nn.spec import default_spec
from deeph_zero.settings.config import MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig


@pytest.mark.parametrize(
    ("states", "wanted"),
    [([], (1, 2)), ([(-1, 0)], (-1, 0)), ([[0, 1]], (0, 1)), ([(0, 0), (1, 1)], (1, 2))],
)
def test_one_trained_state_is_the_default(states, wanted):
    meta = {"states": states, "method": {"charge": 1, "spin": 2}}
    assert tuple(default_state(meta)) == wanted
    assert tuple(default_state({"states": [], "method": {}})) == (0, 0)


@pytest.mark.parametrize("states", [[3], ["ab"], [[1, 2, 3]], [[None, 0]], 5])
def test_states_that_are_none_are_refused(states):
    with pytest.raises(InputError, match="states of pairs of whole numbers"):
        default_state({"states": states})


def test_what_is_asked_comes_first():
    own = State(1, 2)
    assert tuple(asked_state(own, charge=None, spin=None)) == (1, 2)
    assert tuple(asked_state(own, charge=0, spin=None)) == (0, 2)
    assert tuple(asked_state(own, charge=None, spin=0)) == (1, 0)


def test_only_what_is_taken_is_said():
    assert state_line(State(0, 0)) is None
    assert state_line(State(1, 0), charge=0) is None
    assert state_line(State(1, 2), charge=0, spin=0) is None
    assert "with charge 1 and spin (2S) 0, those" in state_line(State(1, 0))
    assert "with spin (2S) 2, those" in state_line(State(1, 2), charge=0)


def crystal(*lengths):
    return Molecule(
        numbers=np.array([6]),
        coords=np.zeros((1, 3)),
        lattice=np.diag(lengths).astype(float),
        pbc=(True, True, True),
    )


def test_spacings_hold_for_the_smallest_cell():
    """A cell as small as any of training gets the mesh of training; the shortest axis decides."""
    spec = default_spec(BasisLayout.from_shells({6: (0, 1)}), "tiny", balanced=False)
    config = MethodConfig(basis="gth-szv", xc="pbe")
    crystals = [crystal(5.0, 8.0, 6.0), crystal(6.0, 7.0, 6.5)]
    meta = crystal_meta(config, SmearedCrystalConfig(kmesh=(4, 2, 3)), spec, crystals)
    wanted = SLACK * 2 * np.pi / np.array([5.0 * 4, 7.0 * 2, 6.0 * 3])
    np.testing.assert_allclose(meta["crystal"]["spacings"], wanted, rtol=1e-12)
    assert is_of_crystals(meta)
    assert not is_of_crystals({"crystal": None})
    assert not is_of_crystals({})
    assert meta["elements"] == [6]
    assert meta["shells"] == {"6": [0, 1]}
