"""Charges and spins of other programs' files, and numbers there that mean none."""

import pytest

from deeph_zero.data.reading.stated import is_layer, stated_beside

XML = (
    "<rc><c>   2</c><c>Si</c><c>28.1</c><c>  4.0</c><c>PAW</c></rc>"
    '<i name="NELECT">  7.0</i><i name="NUPDOWN">{}</i>'
)
OUT = "  ions per type =      1   3\n  ZVAL   =   4.00  1.00\n   NELECT =   9.0  total\n"


@pytest.mark.parametrize(
    ("name", "text", "stated"),
    [
        ("espresso-in", "&system\n nat=1, tot_charge = 1.0d0, tot_magnetization=1", ("1", "1")),
        ("espresso-in", " tot_magnetization = -1\n ! tot_charge=2", (None, None)),
        ("abinit-in", "natom 1 cellcharge 1.0\nspinmagntarget 1", ("1", "1")),
        ("abinit-in", "# charge 2\nnatom 1", (None, None)),
        ("castep-castep", " net charge of system : -1.0\n net spin  of system : 3.0", ("-1", "3")),
        ("onetep-in", "charge : -1\nspin 2\n", ("-1", "2")),
        ("gpaw-out", "  Total Charge: 1.000000\n", ("1", None)),
        ("vasp-xml", XML.format(" 1.0"), ("1", "1")),
        ("vasp-xml", XML.format("-1.0"), ("1", None)),
        ("vasp-out", OUT + "  NUPDOWN=  -1.0", ("-2", None)),
        ("vasp-out", OUT.replace("9.0", "7.0"), ("0", None)),
        ("nwchem-out", " Charge :  1\n Spin multiplicity:  2\n", ("1", None)),
        ("cube", "charge : 1", (None, None)),
    ],
)  # fmt: skip
def test_charge_and_unpaired_electrons(name, text, stated):
    found = stated_beside(name, text.encode())
    assert (found.get("charge"), found.get("spin")) == stated


def test_layers_of_quantum_espresso():
    assert is_layer("espresso-in", b" nat=1, assume_isolated = '2D'\n")
    assert not is_layer("espresso-in", b" ! assume_isolated = '2D'\n assume_isolated='mt'")
