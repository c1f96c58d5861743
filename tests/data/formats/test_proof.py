"""The order of functions is proven by overlaps, or refused."""

import h5py
import pytest

from deeph_zero.data.formats.deeph import DeepHSink, DeepHSource
from deeph_zero.data.formats.proof import order_deviation, settled_order
from deeph_zero.data.formats.protocol import read_record
from deeph_zero.errors import InputError

from .conftest import written


def test_overlaps_tell_the_order(tmp_path, crystal):
    source = DeepHSource(written(tmp_path / "a", DeepHSink, crystal))
    assert order_deviation(read_record(source, 0)) < 1e-10
    for other in ("pyscf", "openmx", "siesta", "aims", "psi4", "abacus"):
        assert order_deviation(read_record(source, 0, order=other)) > 0.1
    source.order = "siesta"
    order, deviation = settled_order(source, 0)
    assert (order, deviation < 1e-10) == ("m", True)


def test_functions_in_no_order_are_refused(tmp_path, crystal):
    folder = written(tmp_path / "a", DeepHSink, crystal)
    with h5py.File(folder / "overlap.h5", "r+") as file:
        pairs = file["atom_pairs"][()]
        pairs[:, :3] = -pairs[:, :3]  # the other sign of R
        file["atom_pairs"][...] = pairs
    with pytest.raises(InputError, match="in no known order"):
        settled_order(DeepHSource(folder), 0)
