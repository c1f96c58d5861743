"""Contacts that no molecule has are refused wherever structures come in."""

import ase
import ase.collections
import numpy as np
import pytest
from ase.build import molecule
from ase.data import covalent_radii

from deeph_zero.data.contacts import CLOSEST, check_contacts
from deeph_zero.data.structures import from_atoms, read_structures
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

ALKALI = "2\n\nNa 0.1 0.2 0.3\nC 0.1 0.2 {:.4f}\n"


@pytest.mark.parametrize("name", [*ase.collections.g2.names, *ase.collections.s22.names])
def test_molecules_pass(name):
    known = ase.collections.g2 if name in ase.collections.g2.names else ase.collections.s22
    assert from_atoms(known[name], spin=0).natm == len(known[name])


@pytest.mark.parametrize(
    ("symbols", "length"),
    [("HH", 0.5), ("NN", 0.85), ("LiF", 1.2), ("OU", 1.70), ("HF", 0.6), ("CsF", 2.0)],
)
def test_squeezed_diatomics_pass(symbols, length):
    from_atoms(ase.Atoms(symbols, [[0, 0, 0], [0.6 * length, 0, 0.8 * length]]))


@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "C6H6", "CH3SH", "NH3", "isobutane"])
def test_angstroms_read_as_bohr_are_refused(name):
    atoms = molecule(name)
    atoms.positions *= BOHR_IN_ANGSTROM
    with pytest.raises(InputError, match="the coordinates or their unit"):
        from_atoms(atoms)


def test_the_nearest_pair_relative_to_its_radii_is_named(tmp_path):
    limit = CLOSEST * (covalent_radii[11] + covalent_radii[6])
    path = tmp_path / "c.xyz"
    path.write_text(ALKALI.format(0.3 + limit + 1e-3) + ALKALI.format(0.3 + limit - 1e-3))
    molecules, bad = read_structures([path])
    assert (len(molecules), bad[0].frame) == (1, 1)
    assert bad[0].error.startswith(
        f"atoms 1 and 2 (Na, C) are {limit - 1e-3:.2f} angstrom apart; expected at least "
    )
    assert "allow_close_contacts=True" in bad[0].error
    molecules, bad = read_structures([path], allow_close_contacts=True)
    assert (len(molecules), bad) == (2, [])
    # C-C at 0.8 Å is nearer than any, though O-H is shorter; three more pairs are too near as well
    numbers, xyz = [6, 6, 8, 1], [[0, 0, 0], [0, 0, 0.7], [3, 0, 0], [3, 0.1, 0.95]]
    with pytest.raises(InputError, match=r"atoms 1 and 2 \(C, C\) are 0\.70 angstrom apart; "):
        check_contacts(np.array(numbers), np.array(xyz))
    xyz[2] = [0, 0, 0.35]
    with pytest.raises(InputError, match=r"atoms . and 3 .* apart \(and 2 more pairs\);"):
        check_contacts(np.array(numbers), np.array(xyz))


def test_insisting_does_not_put_nuclei_on_one_point():
    atoms = ase.Atoms("HH", [[0, 0, 0], [0, 0, 0.2]])
    with pytest.raises(InputError, match=r"0\.20 angstrom apart"):
        from_atoms(atoms)
    assert from_atoms(atoms, allow_close_contacts=True).natm == 2
    atoms.positions[1, 2] = 0.05
    with pytest.raises(InputError, match="on one point"):
        from_atoms(atoms, allow_close_contacts=True)
