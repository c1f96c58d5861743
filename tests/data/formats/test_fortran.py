"""Fortran's records: read one after the other, and every kind of damage."""

import numpy as np
import pytest

from deeph_zero.data.formats.fortran import FortranRecords
from deeph_zero.errors import InputError

from .siesta_files import ints, record


def records(tmp_path, content):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    return FortranRecords(path, "a file of the tests")


def test_records_come_one_after_the_other(tmp_path):
    numbers = np.array([0.5, -2.0, 1e-300])
    found = records(tmp_path, record(ints(7, -8)) + record(b"") + record(numbers) + record(b"ab"))
    assert found.numbers("sizes", "<i4", 2).tolist() == [7, -8]
    assert found.next("nothing") == b""
    np.testing.assert_array_equal(found.numbers("numbers", "<f8", 3), numbers)
    assert found.next("a text") == b"ab"
    with pytest.raises(InputError, match="expected more, the file ends at byte 66; copy it again"):
        found.next("more")


DAMAGE = {
    "empty": (b"", "expected sizes, the file ends at byte 0"),
    "half a mark": (b"\x08\0", "expected sizes, the file ends at byte 0"),
    "cut": (record(ints(1, 2))[:-5], "at byte 0, the record is cut off or damaged"),
    "without end mark": (record(ints(1, 2))[:-4], "the record is cut off or damaged"),
    "marks differ": (record(ints(1, 2))[:-4] + ints(4).tobytes(), "cut off or damaged"),
    "negative": (ints(-1, 3).tobytes(), "cut off or damaged"),
    "huge": (ints(2**31 - 1, 3).tobytes(), "cut off or damaged"),
    "longer": (
        record(ints(1, 2, 3)),
        "2 numbers of sizes, got a record of 12 bytes",
    ),
    "shorter": (record(ints(1)), "got a record of 4 bytes; check that it is a file of the tests"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_told_with_its_place(tmp_path, case):
    content, message = DAMAGE[case]
    with pytest.raises(InputError, match=message):
        records(tmp_path, content).numbers("sizes", "<i4", 2)
