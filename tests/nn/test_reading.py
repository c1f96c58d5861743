import dataclasses

import pytest
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec

LAYOUT = BasisLayout.from_shells({1: (0,), 8: (0, 0, 1)})


@pytest.mark.parametrize("inputs", ["physics", "geometry"])
def test_a_network_reads_what_its_numbers_say(inputs):
    spec = default_spec(LAYOUT, "tiny", cutoff=7.5, inputs=inputs)
    network = FockNetwork(spec).double()
    read = network.reading
    assert read == Reading.of(spec, torch.float64)
    shared = {f.name for f in dataclasses.fields(read)} - {"dtype"}
    assert all(getattr(read, name) == getattr(spec, name) for name in shared)


@pytest.mark.parametrize(
    ("inputs", "newest"), [("physics", "dielectric"), ("geometry", "multipoles")]
)
def test_without_a_base_the_newest_is_corrected(inputs, newest):
    read = Reading(LAYOUT, cutoff=7.5, inputs=inputs)
    assert read.corrected == newest
    assert dataclasses.replace(read, base="fock").corrected == "fock"
