"""Model files: what is written is read, and what is no model, or a damaged one, is named."""

import dataclasses
import json
import math
import os
import pathlib
import shutil

import pytest
import torch

from deeph_zero.ao.coupling import wigner_3j
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.tensor_files import write_pair
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


@dataclasses.dataclass(frozen=True)
class Spec:
    width: int = 3


class Network(torch.nn.Module):
    def __init__(self, value=0.0):
        super().__init__()
        self.spec = Spec()
        self.weight = torch.nn.Parameter(torch.full((3, 2), value))
        self.register_buffer("scale", torch.tensor(2.0, dtype=torch.float64))


def _write(folder, value=0.0):
    return save_model(folder, Network(value), {"basis": "def2-svp", "elements": [1, 8]})


def test_model_round_trip(tmp_path):
    path = _write(tmp_path / "run", 1.5)
    for given_path in (path, path.parent, str(path)):
        spec, state, meta = read_model(given_path)
        assert spec == {"width": 3}
        assert torch.equal(state["weight"], torch.full((3, 2), 1.5))
        assert state["scale"].dtype == torch.float64
        assert meta["basis"] == "def2-svp"
        assert meta["format_version"] == 1
        assert meta["ao_order"] == "pyscf"
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.json", "model.safetensors"]


def _edit(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _truncate(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])


def _other_weights(folder):
    _write(folder.parent / "other", 9.0)
    shutil.copy(folder.parent / "other" / "model.safetensors", folder)


def _not_finite(folder):
    tensors = {"weight": torch.tensor([1.0, math.nan])}
    document = json.loads((folder / "model.json").read_text())
    write_pair(folder, "model", tensors, document)


DAMAGE = [
    (shutil.rmtree, r"does not exist"),
    (lambda f: (f / "model.safetensors").unlink(), r"has no model\.safetensors"),
    (lambda f: (f / "model.json").unlink(), r"model\.json cannot be read \(No such file"),
    (lambda f: _truncate(f, 0), r"truncated or not a safetensors file \(0 bytes\)"),
    (lambda f: _truncate(f, 40), r"truncated or not a safetensors file \(40 bytes\)"),
    (lambda f: (f / "model.safetensors").write_text("hello world " * 9), r"not a safetensors"),
    (lambda f: (f / "model.json").write_text("{ nonsense"), r"not valid JSON"),
    (lambda f: (f / "model.json").write_bytes(b"\xff\xfe\x00"), r"not valid JSON"),
    (lambda f: (f / "model.json").write_text("[1, 2]"), r"holds a list"),
    (lambda f: (f / "model.json").write_text("{}"), r"does not say so"),
    (
        lambda f: _edit(f, format_version=7),
        r"written by a newer deeph-zero \(format 7, this one reads 1\); upgrade",
    ),
    (lambda f: _edit(f, format_version="x"), r"format_version from 1 to 1 .* got 'x'"),
    (lambda f: _edit(f, network=None), r"the network's specification"),
    (lambda f: _edit(f, cg_fingerprint="0" * 16), r"Clebsch-Gordan coefficients differ"),
    (lambda f: _edit(f, sha256="0" * 64), r"do not belong together .*SHA-256"),
    (_other_weights, r"do not belong together .*SHA-256"),
    (_not_finite, r"finite weights .* in weight"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_model_is_one_line_saying_what_is_wrong(tmp_path, damage, message):
    folder = tmp_path / "run"
    _write(folder)
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)


def test_a_text_file_is_not_a_model(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt, which is not one"):
        read_model(path)


def test_a_pickle_under_the_models_name_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "boom"),))

    _write(tmp_path / "run")
    torch.save(Bomb(), tmp_path / "run" / "model.safetensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        read_model(tmp_path / "run")
    assert not (tmp_path / "boom").exists()


def test_a_disk_that_refuses_is_one_line_and_keeps_the_model(tmp_path, monkeypatch):
    _write(tmp_path, 1.0)
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(ComputationError, match="No space left on device"):
        _write(tmp_path, 2.0)
    monkeypatch.undo()
    assert read_model(tmp_path)[1]["weight"][0, 0] == 1.0
    assert not list(tmp_path.glob("*.new"))


def _full_disk(_):
    raise OSError(28, "No space left on device")


class _KillError(BaseException):
    pass


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("survived", range(5))
def test_a_kill_between_any_two_file_operations_leaves_a_consistent_pair(
    tmp_path, monkeypatch, first, survived
):
    """Every later moment is covered too: the operations before it were complete."""
    if not first:
        _write(tmp_path, 1.0)
    calls = []

    def limited(function):
        def call(*args, **kwargs):
            if len(calls) == survived:
                raise _KillError
            calls.append(function)
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", limited(os.fsync))
        patch.setattr(pathlib.Path, "replace", limited(pathlib.Path.replace))
        killed = False
        try:
            _write(tmp_path, 2.0)
        except _KillError:
            killed = True
    assert killed == (survived < 4)
    new = survived >= 3  # both written, tensors renamed
    if first and not new:
        with pytest.raises(InputError, match="which has no model"):
            read_model(tmp_path)
    else:
        assert read_model(tmp_path)[1]["weight"][0, 0] == (2.0 if new else 1.0)
    _write(tmp_path, 3.0)  # and the folder stays usable
    assert read_model(tmp_path)[1]["weight"][0, 0] == 3.0


def test_a_kill_while_the_next_save_starts_keeps_the_waiting_pair(tmp_path, monkeypatch):
    _write(tmp_path, 1.0)
    shutil.copytree(tmp_path, tmp_path / "old")
    _write(tmp_path, 2.0)
    (tmp_path / "model.json").replace(tmp_path / "model.json.new")
    shutil.copy(tmp_path / "old" / "model.json", tmp_path / "model.json")
    assert read_model(tmp_path)[1]["weight"][0, 0] == 2.0
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(ComputationError):
        _write(tmp_path, 3.0)
    assert read_model(tmp_path)[1]["weight"][0, 0] == 2.0


def test_fingerprint_is_far_from_every_rounding_boundary():
    values = torch.cat(
        [
            wigner_3j(a, b, c).flatten()
            for a in range(5)
            for b in range(5)
            for c in range(abs(a - b), min(a + b, 8) + 1)
        ]
    )
    distance = ((100 * values.abs()) % 1 - 0.5).abs().min() / 100
    assert distance > 1e-5


def test_fingerprint_notices_a_changed_sign(monkeypatch):
    before = folder.clebsch_gordan_fingerprint()

    def flipped(l1, l2, l3):
        return (-1 if (l1, l2, l3) == (1, 1, 1) else 1) * wigner_3j(l1, l2, l3)

    monkeypatch.setattr(folder, "wigner_3j", flipped)
    assert folder.clebsch_gordan_fingerprint.__wrapped__() != before
