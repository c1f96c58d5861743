"""Model files: what is written is read, and what is no model, or a damaged one, is named."""

import json

import pytest
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.model_files import folder
from deeph_zero.model_files.folder import fingerprint, model_folder, read_model, save_model
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import NetworkSpec, default_spec


@pytest.fixture(scope="module")
def network():
    return FockNetwork(default_spec(BasisLayout.from_shells({1: (0,)}), "tiny"))


@pytest.fixture
def saved(network, tmp_path):
    save_model(tmp_path / "run", network, {"basis": "sto-3g"})
    return tmp_path / "run"


def test_what_is_written_is_read(network, saved):
    for given in (saved, saved / "model.safetensors", str(saved)):
        spec, state, meta = read_model(given)
        assert NetworkSpec.from_dict(spec) == network.spec
        assert meta["basis"] == "sto-3g"
        assert "network" not in meta
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())


def test_fingerprints_tell_models_apart(network, saved, tmp_path):
    again = save_model(tmp_path / "again", network, {"basis": "sto-3g"})
    other = save_model(tmp_path / "other", network, {"basis": "6-31g"})
    assert fingerprint(again) == fingerprint(saved)
    assert fingerprint(other) != fingerprint(saved)


def test_weights_that_are_not_finite_leave_the_old_model(network, saved):
    before = fingerprint(saved)
    broken = FockNetwork(network.spec)
    with torch.no_grad():
        next(iter(broken.parameters())).view(-1)[0] = float("nan")
    with pytest.raises(ComputationError, match=r"NaN or infinity in .*was not written"):
        save_model(saved, broken, {})
    assert fingerprint(saved) == before


def rewrite(saved, **changes):
    path = saved / "model.json"
    document = json.loads(path.read_text())
    document.update(changes)
    path.write_text(json.dumps(document))


NOT_OURS = [
    ({"format_version": 99}, "newer deeph-zero .format 99"),
    ({"kind": "deeph-zero checkpoint"}, "model"),
    ({"cg_fingerprint": "0" * 16}, "Clebsch-Gordan|coefficients"),
    ({"sha256": "0" * 64}, "copy|belong|damaged"),
]


@pytest.mark.parametrize(("changes", "words"), NOT_OURS)
def test_what_does_not_belong_together_is_refused(saved, changes, words):
    rewrite(saved, **changes)
    with pytest.raises(InputError, match=words) as raised:
        read_model(saved)
    assert "\n" not in str(raised.value)


def test_what_is_no_model_is_named(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no model")
    for name, words in (("empty", "has no model.safetensors"), ("nowhere", "does not exist"),
                        ("text.txt", "is not one")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            model_folder(tmp_path / name)
    with pytest.raises(InputError, match="got an empty name"):
        model_folder(" ")
    assert model_folder(saved / "model.safetensors") == saved


def test_the_fingerprint_of_coefficients_sees_a_sign(monkeypatch):
    folder.clebsch_gordan_fingerprint.cache_clear()
    own = folder.clebsch_gordan_fingerprint()
    true = folder.wigner_3j

    def turned(l1, l2, l3):
        return -true(l1, l2, l3) if (l1, l2, l3) == (1, 1, 2) else true(l1, l2, l3)

    try:
        folder.clebsch_gordan_fingerprint.cache_clear()
        monkeypatch.setattr(folder, "wigner_3j", turned)
        assert folder.clebsch_gordan_fingerprint() != own
    finally:
        folder.clebsch_gordan_fingerprint.cache_clear()
