"""Architectures as numbers: their ranges, and JSON that brings them back."""

import dataclasses
import json

import pytest

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import NetworkSpec, default_spec

LAYOUT = BasisLayout.from_shells({1: (0, 1), 8: (0, 0, 1, 2)})


@pytest.fixture
def spec():
    return default_spec(LAYOUT, "tiny", cutoff=9.5)


def test_json_brings_it_back(spec):
    other = dataclasses.replace(spec, n_layers=1, interaction="tensor-product", balanced=False)
    for one in (spec, other):
        assert NetworkSpec.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
@pytest.mark.parametrize("shells", [{1: (0,)}, {8: (0, 1, 2, 3)}])
def test_widths_fit_any_basis(size, shells):
    """Even, for invariants pair one half with the other; as many as there are momenta."""
    found = default_spec(BasisLayout.from_shells(shells), size)
    lmax = 2 * max(max(ls) for ls in shells.values())
    assert len(found.natural) == len(found.pseudo) == lmax + 1
    assert len(found.pair) == lmax + 2
    assert all(n % 2 == 0 for n in (*found.natural, *found.pseudo, *found.pair))
    assert found.pseudo[0] == 0
    assert min(found.natural) > 0


def test_larger_networks_have_more_weights():
    counts = [sum(p.numel() for p in FockNetwork(default_spec(LAYOUT, size)).parameters())
              for size in ("tiny", "small")]  # fmt: skip
    assert counts[1] > 3 * counts[0]


def test_geometry_inputs_read_a_density_by_their_base(spec):
    geometry = default_spec(LAYOUT, "tiny", inputs="geometry")
    assert (spec.base, geometry.base) == ("dielectric", "multipoles")
    assert spec.reads_density
    assert geometry.reads_density
    assert not dataclasses.replace(geometry, base="fock").reads_density


@pytest.mark.parametrize(
    ("change", "words"),
    [({"cutoff": 0.0}, "cutoff: expected a distance above 0"),
     ({"cutoff": float("inf")}, "cutoff"),
     ({"cutoff": float("nan")}, "cutoff"),
     ({"n_layers": -1}, "n_layers: expected a count, 0 or more, got -1"),
     ({"n_radial": 0}, "n_radial"),
     ({"embedding": 0}, "embedding"),
     ({"base": "multipoles"}, "base: expected one of .* with physics inputs"),
     ({"natural": (2, 2)}, "widths must run over l = 0..4")],
)  # fmt: skip
def test_what_is_out_of_range_is_named(spec, change, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(spec, **change)
