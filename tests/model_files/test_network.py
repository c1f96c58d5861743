"""Networks read from model files: the same answers, and pairs that do not fit refused."""

import json

import pytest
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.network import check_path, read_network
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec

SHELLS = {1: (0, 1), 8: (0, 0, 1)}
META = {
    "method": {"xc": "pbe", "basis": "def2-svp", "density_fit": True, "grid_level": 2},
    "elements": [1, 8],
    "shells": {str(z): list(ls) for z, ls in SHELLS.items()},
    "basis": "def2-svp",
    "xc": "pbe",
    "kind": "GGA",
    "grid_level": 2,
}


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return FockNetwork(default_spec(BasisLayout.from_shells(SHELLS), "tiny"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_and_their_type_come_back(network, dtype, tmp_path):
    save_model(tmp_path, network.to(dtype), META)
    state = torch.random.get_rng_state()
    found, meta = read_network(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)  # a user's seed is left alone
    assert found.spec == network.spec
    assert meta["basis"] == "def2-svp"
    assert not found.training
    own = network.state_dict()
    for name, value in found.state_dict().items():
        assert value.dtype == own[name].dtype
        assert torch.equal(value, own[name])


@pytest.mark.parametrize(
    ("change", "words"),
    [({"n_layers": 3}, "3 layers, got 2"), ({"interaction": "tensor-product"}, "mismatch|network"),
     ({"cutoff": -1.0}, "network.cutoff")],
)  # fmt: skip
def test_a_specification_of_other_weights_is_refused(network, change, words, tmp_path):
    save_model(tmp_path, network, META)
    path = tmp_path / "model.json"
    document = json.loads(path.read_text())
    document["network"] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=words) as raised:
        read_network(tmp_path)
    assert "\n" not in str(raised.value)


def test_weights_of_whole_numbers_are_refused(network, tmp_path, monkeypatch):
    whole = network.state_dict()
    name = "element.weight"
    whole[name] = whole[name].to(torch.int32)
    monkeypatch.setattr(network, "state_dict", lambda: whole)
    save_model(tmp_path, network, META)
    with pytest.raises(InputError, match=r"element\.weight holds int32"):
        read_network(tmp_path)


@pytest.mark.parametrize("given", [3, None, ["run"]])
def test_what_is_no_path_is_one_line(given):
    with pytest.raises(InputError, match=r"^expected a model \(.*\), got \w+; give its path"):
        check_path(given)
