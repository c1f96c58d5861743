"""The specification of model.json: what is wrong is named, whatever it is."""

import copy
import json
from pathlib import Path

import pytest
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.model_files.document import check_model_document, check_sizes
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec

PATH = Path("run/model.json")
SHELLS = {1: (0, 1), 8: (0, 0, 1)}


@pytest.fixture(scope="module")
def network():
    return FockNetwork(default_spec(BasisLayout.from_shells(SHELLS), "tiny"))


@pytest.fixture
def document(network):
    shells = {str(z): list(ls) for z, ls in SHELLS.items()}
    made = {
        "method": {"xc": "pbe", "basis": "def2-svp", "density_fit": True, "grid_level": 2},
        "network": network.spec.to_dict(),
        "elements": [1, 8],
        "shells": shells,
        "basis": "def2-svp",
        "xc": "pbe",
        "kind": "GGA",
        "grid_level": 2,
        "note": "keys that later versions add are no error",
    }
    return json.loads(json.dumps(made))


def test_what_training_writes_is_right(document):
    check_model_document(document, PATH)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("basis",), None, "it has no basis"),
        (("network", "cutoff"), "14", r"network.cutoff: expected .*number, got '14'"),
        (("network", "cutoff"), 0.0, r"network.cutoff: expected greater than 0, got 0"),
        (("network", "n_layers"), 10**6, r"network.n_layers: expected less than or equal to 64"),
        (("network", "embedding"), True, r"network.embedding"),
        (("network", "interaction"), "so3", r"network.interaction: expected 'so2' or"),
        (("network", "more"), 1, r"unknown key network.more"),
        (("network", "layout", "shells"), {}, r"network.layout.shells"),
        (("network", "layout", "shells", "900"), [0], r"network.layout.shells"),
        (("units",), "electronvolt", r"units: expected 'hartree atomic units'"),
        (("elements",), [8, 1], r"elements and shells as in network.layout \(\[1, 8\]\)"),
        (("shells", "1"), [0, 0], r"elements and shells as in network.layout"),
        (("xc",), "b3lyp", r"xc 'pbe' as in method.xc, got 'b3lyp'"),
        (("grid_level",), 3, r"grid_level 2 as in method.grid_level, got 3"),
        (("density_fit",), False, r"density_fit True as in method.density_fit, got False"),
    ],
)
def test_what_is_wrong_is_named(document, where, value, words):
    inner = document
    for name in where[:-1]:
        inner = inner[name]
    if value is None:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    with pytest.raises(InputError, match=words) as raised:
        check_model_document(document, PATH)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"{PATH}: expected")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spec, _: spec.update(embedding=4096), "element.weight of shape (2, 4096)"),
        (lambda spec, _: spec["natural"].__setitem__(0, 2000), "node_film.weight"),
        (lambda spec, _: spec.update(n_layers=5), "5 layers, got 2"),
        (lambda _, state: state.pop("scales.node_out"), "scales.node_out of shape"),
    ],
)
def test_sizes_are_looked_at_before_anything_is_built(network, change, words):
    spec = copy.deepcopy(json.loads(json.dumps(network.spec.to_dict())))
    state = dict(network.state_dict())
    check_sizes(spec, state, PATH)
    change(spec, state)
    with pytest.raises(InputError) as raised:
        check_sizes(spec, state, PATH)
    assert words in str(raised.value)


def test_weights_of_another_network_are_refused(network):
    other = dict(network.state_dict())
    other["pair_film.weight"] = torch.zeros(3, 3)
    with pytest.raises(InputError, match=r"pair_film\.weight of shape"):
        check_sizes(network.spec.to_dict(), other, PATH)
