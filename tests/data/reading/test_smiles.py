"""SMILES with dots: molecules apart from each other, charges and radicals kept, always the same."""

import importlib.util

import numpy as np
import pytest
from ase.data import covalent_radii
from scipy.spatial.distance import cdist

from deeph_zero.data.structures import read_structures
from deeph_zero.units import BOHR_IN_ANGSTROM

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("rdkit") is None, reason="needs the smiles extra"
)


def read(smiles):
    (molecule,), bad = read_structures([f"smiles:{smiles}"])
    assert bad == []
    return molecule, molecule.coords * BOHR_IN_ANGSTROM


def members(smiles):
    from rdkit import Chem

    return [list(m) for m in Chem.GetMolFrags(Chem.AddHs(Chem.MolFromSmiles(smiles)))]


# SMILES, charge, 2S, shortest and longest distance between neighbours (angstrom)
SALTS = [
    ("CC(=O)[O-].[Na+]", 0, 0, 1.9, 2.5),
    ("C[NH3+].[Cl-]", 0, 0, 1.6, 2.6),
    ("[Li+].[F-]", 0, 0, 1.4, 2.0),
    ("O.O", 0, 0, 1.6, 2.1),
    ("[K+].[Br-].O", 0, 0, 2.2, 3.6),
    ("[Fe+2].[Cl-].[Cl-]", 0, 0, 2.0, 2.8),  # MMFF has it, UFF has not
    ("[Xe].OC", 0, 0, 2.5, 4.5),  # neither has
    ("[O][O].O", 0, 2, 1.6, 4.0),
    ("[CH3].[CH3].[Na+]", 1, 2, 2.0, 4.5),
    ("[Na+].[Na+]", 2, 0, 2.0, 4.5),  # the force field drives them apart
    ("c1ccccc1.Cl", 0, 0, 2.2, 4.0),
]


@pytest.mark.parametrize("case", SALTS, ids=lambda case: case[0])
def test_molecules_are_neighbours_without_overlap(case):
    smiles, charge, spin, shortest, longest = case
    molecule, xyz = read(smiles)
    assert (molecule.charge, molecule.spin) == (charge, spin)
    groups = members(smiles)
    assert sorted(k for own in groups for k in own) == list(range(molecule.natm))
    for own in groups:
        others = np.setdiff1d(np.arange(molecule.natm), own)
        gaps = cdist(xyz[own], xyz[others])
        assert shortest < gaps.min() < longest
        radii = covalent_radii[molecule.numbers]
        assert (gaps > 0.65 * (radii[own][:, None] + radii[others])).all()
    assert np.array_equal(read(smiles)[0].coords, molecule.coords)


def test_molecules_keep_their_shape_beside_others():
    _, alone = read("CCO")
    molecule, beside = read("CCO.[Na+]")
    assert list(molecule.numbers[:4]) == [6, 6, 8, 11]
    for i, j in ((0, 1), (1, 2)):
        lengths = [np.linalg.norm(xyz[i] - xyz[j]) for xyz in (alone, beside)]
        assert lengths[0] == pytest.approx(lengths[1], abs=0.05)
    assert np.linalg.norm(beside[2] - beside[3]) < 2.6  # sodium is at the oxygen


def test_a_wrong_molecule_among_others_is_named(tmp_path):
    path = tmp_path / "set.smi"
    path.write_text("O.O\n[Na+].Xq\nO.[Cl-]\n")
    molecules, bad = read_structures([path])
    assert [m.natm for m in molecules] == [6, 4]
    assert [(b.frame, "expected a SMILES" in b.error) for b in bad] == [(1, True)]


def test_radicals_of_an_extension_are_used_and_names_are_not():
    (radical, plain), bad = read_structures(["smiles:C |^2:0|", "smiles:O |water"])
    assert (bad, radical.spin, radical.numbers.tolist()) == ([], 2, [6, 1, 1])
    assert (plain.spin, plain.numbers.tolist()) == (0, [8, 1, 1])


def test_isotopes_are_said_to_be_unused(caplog):
    with caplog.at_level("WARNING", logger="deeph_zero"):
        (heavy, plain), bad = read_structures(["smiles:[2H]O[2H]", "smiles:F/C=C/F"])
    assert (bad, heavy.numbers.tolist()) == ([], [1, 8, 1])
    assert plain.file == "smiles:F/C=C/F"
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith("smiles:[2H]O[2H] frame 0: isotopes have the same electrons")
