"""Files of programs that no reader takes are refused by the program's name, and never misread."""

import pytest

from deeph_zero.data.structures import read_structures

ATOMS = "O 0.0 0.0 0.1\nH 0.0 0.76 0.58\nH 0.0 -0.74 0.61\n"
FOREIGN = {
    "Psi4": f"memory 1 gb\n\nmolecule h2o {{\n  1 2\n{ATOMS}}}\nset basis cc-pvdz\nenergy('scf')\n",
    "Psi4 ": f'import psi4\nmol = psi4.geometry("""\n-1 1\n{ATOMS}""")\n',
    "Molpro": f"***,water\ngeometry={{\n3\nwater\n{ATOMS}}}\nwf,9,1,1\nbasis=vdz\n{{rhf}}\n",
    "Molpro ": f"angstrom\ngeom={{\n{ATOMS}}}\nset,charge=1,spin=1\nrhf\nend\n",
    "GAMESS": " $CONTRL SCFTYP=UHF ICHARG=1 MULT=2 $END\n $DATA\nwater\nC1\n"
    "O 8.0 0.0 0.0 0.1\nH 1.0 0.0 0.76 0.58\nH 1.0 0.0 -0.74 0.61\n $END\n",
    "GAMESS ": " $data\nH2\nCn 2\n\nH 1. 0 0 0.7\n $end\n",
    "MOPAC": "PM7 CHARGE=1 UHF DOUBLET\ncation\n\nO 0.0 1 0.0 1 0.1 1\nH 0.0 1 0.76 1 0.58 1\n",
    "MOPAC ": f"* from a script\nUHF  AM1 XYZ charge=-1\n\n\n{ATOMS}",
    "CP2K": f"&FORCE_EVAL\n&DFT\nCHARGE 1\n&END\n&SUBSYS\n&COORD\n{ATOMS}&END\n&END\n&END\n",
    "CFOUR": "water\nH\nO 1 R\nH 2 R 1 A\n\nR=0.958\nA=104.5\n\n*CFOUR(CALC=SCF,CHARGE=1)\n",
    "OpenMolcas": f"&GATEWAY\ncoord\n3\nwater\n{ATOMS}basis=STO-3G\n&SCF\ncharge=1\n",
    "Jaguar": f"&gen\nmolchg=1\nmultip=2\n&\n&zmat\n{ATOMS}&\n",
    "DALTON": "BASIS\ncc-pVDZ\nwater\n\nAtomTypes=1 Charge=1\nCharge=8.0 Atoms=1\nO 0 0 0.1\n",
    "AMS": f"Task SinglePoint\nSystem\nAtoms\n{ATOMS}End\nCharge 1\nEnd\nEngine ADF\nEndEngine\n",
    "TeraChem": "coordinates water.xyz\ncharge 1\nspinmult 2\nrun energy\n",
    "Python": f'from pyscf import gto\nmol = gto.M(atom="""\n{ATOMS}""", charge=1, spin=1)\n',
}
OUTPUTS = {
    "Psi4": "          Psi4: An Open-Source Ab Initio Electronic Structure Package\n  charge = 1\n",
    "Molpro": "     ***  PROGRAM SYSTEM MOLPRO  ***\n ATOMIC COORDINATES\n 1 O 8.00 0.0 0.0 0.1\n",
    "MOPAC": " **          MOPAC v22.0.6          **\n   CARTESIAN COORDINATES\n 1 O 0.0 0.0 0.1\n",
    "MOPAC ": "          SUMMARY OF PM7 CALCULATION, Site No: 1\n FINAL GEOMETRY OBTAINED\n",
}


def refusal(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    molecules, (bad,) = read_structures([path])
    assert molecules == []
    assert bad.frame is None
    return bad.error


@pytest.mark.parametrize("ending", ["inp", "in", "com", "dat", "gjf", "mol", "txt", "any", ""])
@pytest.mark.parametrize("program", FOREIGN)
def test_an_input_of_another_program_is_refused_by_name(program, ending, tmp_path):
    error = refusal(tmp_path, f"water.{ending}".rstrip("."), FOREIGN[program])
    kind = "a Python script" if program == "Python" else f"an input of {program.strip()}"
    assert error == (
        f"expected a structure file, got {kind}, which is not read; write its geometry as .xyz, "
        "with charge= and multiplicity= in the title"
    )


@pytest.mark.parametrize("ending", ["out", "log", "arc", "txt"])
@pytest.mark.parametrize("program", OUTPUTS)
def test_an_output_of_another_program_is_refused_by_name(program, ending, tmp_path):
    error = refusal(tmp_path, f"water.{ending}", OUTPUTS[program])
    assert f"got an output of {program.strip()}, which is not read" in error


@pytest.mark.parametrize("word", ["PM7", "MOPAC 2016", "import", "molecule {", "***,"])
def test_words_of_titles_cost_no_frame(word, tmp_path):
    path = tmp_path / "many.xyz"
    path.write_text(f"x\n\n{ATOMS}3\n{word}\n{ATOMS}3\nfrom x import PM7\n{ATOMS}")
    molecules, bad = read_structures([path])
    assert [m.frame for m in molecules] == [1, 2]
    assert [b.frame for b in bad] == [0]
    (tmp_path / "one.txt").write_text(f"3\n{word}\n{ATOMS}")
    assert len(read_structures([tmp_path / "one.txt"])[0]) == 1


HSD = "Geometry = GenFormat {\n2 C\nO H\n1 1 0 0 0\n2 2 0 0 1\n}\nHamiltonian = DFTB { %s }\n"


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ("SCC = Yes", (0, 1)),
        ("Charge = -1", (-1, 1)),
        ("SCC = Yes; charge=-1.0", (-1, 1)),
        ("Charge = -1\nSpinPolarisation = Colinear {\nUnpairedElectrons = 2\n}", (-1, 2)),
        ("# Charge = 1", (0, 1)),
    ],
)
def test_the_state_in_an_input_of_dftb_is_used(settings, state, tmp_path):
    path = tmp_path / "dftb_in.hsd"
    path.write_text(HSD % settings)
    (molecule,), _ = read_structures([path], spin=1)
    assert (molecule.charge, molecule.spin) == state


def test_a_fractional_charge_of_dftb_is_refused(tmp_path):
    path = tmp_path / "dftb_in.hsd"
    path.write_text(HSD % "Charge = 0.5")
    assert "whole number, got '0.5'" in str(read_structures([path])[1][0])
