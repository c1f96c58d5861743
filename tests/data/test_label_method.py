"""In which words two methods differ, and which names mean the same."""

import dataclasses

import pytest

from deeph_zero.data.label_method import method_differences
from deeph_zero.method import Method

WANTED = Method(xc="pbe", basis="sto-3g", grid_level=1, density_fit=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"basis": "STO-3G"}, []),
        ({"basis": "sto3g"}, []),
        ({"xc": "PBE"}, []),
        ({"xc": "pbe,pbe"}, []),
        ({"xc": "gga_x_pbe,gga_c_pbe"}, []),
        ({"grid_level": None}, []),
        ({"basis": "def2-svp"}, ["basis 'def2-svp' where 'sto-3g' is wanted"]),
        ({"xc": "pbe0"}, ["xc 'pbe0' where 'pbe' is wanted"]),
        ({"xc": "pbe,"}, ["xc 'pbe,' where 'pbe' is wanted"]),
        ({"grid_level": 3}, ["grid level 3 where 1 is wanted"]),
        ({"smearing": 0.01}, ["smearing 0.01 where 0.0 is wanted"]),
        (
            {"basis": "6-31g", "xc": "blyp"},
            ["basis '6-31g' where 'sto-3g' is wanted", "xc 'blyp' where 'pbe' is wanted"],
        ),
    ],
)
def test_what_differs_is_said(changes, words):
    assert method_differences(dataclasses.replace(WANTED, **changes), WANTED) == words


def test_a_basis_written_out_is_called_by_a_short_name():
    text = "H S\n 3.425 0.154\n 0.624 0.535\n"
    (line,) = method_differences(dataclasses.replace(WANTED, basis=text), WANTED)
    assert line.startswith("basis ")
    assert "\n" not in line
    assert "3.425" not in line
    assert method_differences(*[dataclasses.replace(WANTED, basis=text)] * 2) == []
