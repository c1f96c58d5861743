"""Which reader a text goes to, by content before the name's ending."""

import pytest

from deeph_zero.data.structures import read_structures

from .records import NEUTRAL, XYZ, assert_water, save

GOOD = {
    "xyz named .out": ("a.out", XYZ * 2, NEUTRAL * 2),
    "xyz without suffix": ("frames", XYZ, NEUTRAL),
}


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    assert_water(*GOOD[case], tmp_path)


@pytest.mark.parametrize(
    "name", ["a.out", "a.dat", "a.log", "a.txt", "a", "a.json", "a.cif", "a.traj"]
)
@pytest.mark.parametrize("text", ["hello", "3\n", "[1]", "{}", "# a\n\n1 2\n", "data_x\n"])
def test_any_text_under_any_name_is_one_line(tmp_path, name, text):
    molecules, bad = read_structures([save(tmp_path, name, text)])
    assert molecules == []
    assert len(bad) == 1
    assert len(str(bad[0]).splitlines()) == 1
    assert ";" in bad[0].error
