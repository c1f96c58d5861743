"""Checkpoints as safetensors and JSON: written, read, checked, and refused in one line."""

import collections
import json
import math

import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.tensor_files import read_pair, write_pair
from deeph_zero.train.lightning_io import KEEP, SafeCheckpointIO, check_checkpoint

CHECKPOINT = {
    "epoch": 3,
    "global_step": 30,
    "state_dict": {"weight": torch.arange(4.0)},
    "loops": {"fit_loop": {"state_dict": {}}},
    "callbacks": {},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": []}],
    "lr_schedulers": [{"milestones": collections.Counter({10: 1})}],
    "fit": {"lessons": {"errors": [math.inf, 0.1]}},
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / KEEP
    SafeCheckpointIO().save_checkpoint(CHECKPOINT, path)
    return path


def test_what_is_saved_is_loaded(folder):
    found = SafeCheckpointIO().load_checkpoint(folder)
    assert found.keys() == CHECKPOINT.keys()
    assert torch.equal(found["state_dict"]["weight"], torch.arange(4.0))
    assert found["optimizer_states"][0]["state"].keys() == {0}, "keys of numbers stay numbers"
    assert found["fit"] == CHECKPOINT["fit"]
    assert sorted(p.name for p in folder.iterdir()) == ["state.json", "state.safetensors"]
    check_checkpoint(folder)


def test_the_next_checkpoint_replaces_it(folder):
    SafeCheckpointIO().save_checkpoint(CHECKPOINT | {"epoch": 4}, folder)
    assert SafeCheckpointIO().load_checkpoint(folder)["epoch"] == 4
    assert sorted(p.name for p in folder.iterdir()) == ["state.json", "state.safetensors"]


def test_a_checkpoint_can_be_removed_twice(folder):
    SafeCheckpointIO().remove_checkpoint(folder)
    assert not folder.exists()
    SafeCheckpointIO().remove_checkpoint(folder)


def test_what_only_pickle_could_store_is_refused_and_the_old_one_stays(folder):
    with pytest.raises(TypeError, match="got object at /fit/made"):
        SafeCheckpointIO().save_checkpoint(CHECKPOINT | {"fit": {"made": object()}}, folder)
    check_checkpoint(folder)


@pytest.mark.parametrize("name", sorted(CHECKPOINT))
@pytest.mark.parametrize("how", ["missing", "other"])
def test_every_part_of_the_state_of_a_training_is_looked_for(folder, name, how):
    state = {k: v for k, v in CHECKPOINT.items() if k != name}
    if how == "other":
        state[name] = "text"
    SafeCheckpointIO().save_checkpoint(state, folder)
    words = f"there is no {name}" if how == "missing" else f"a bad {name}"
    with pytest.raises(InputError, match=rf"state\.json: expected the state of .*{words}; put"):
        check_checkpoint(folder)


def rewrite(folder, **changes):
    tensors, document = read_pair(folder, "state", what="checkpoint", check=lambda _: None)
    for name in ("sha256",):
        document.pop(name, None)
    write_pair(folder, "state", tensors, document | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": [1, 2]}, "expected the state of a training, got something else"),
        ({"state": {"$tensor": "none"}}, "expected the state of a training, got something else"),
        ({"state": {"a": {"$dtype": "float7"}}}, "got something else"),
        ({"state": {"a": {"$bytes": "zz"}}}, "got something else"),
        ({"state": {"a": {"$deque": 3}}}, "got something else"),
        ({"kind": "deeph-zero model"}, "deeph-zero checkpoint"),
        ({"format_version": 99}, "newer deeph-zero"),
    ],
)
def test_damaged_states_are_one_line(folder, changes, words):
    rewrite(folder, **changes)
    with pytest.raises(InputError, match=words) as caught:
        check_checkpoint(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_state_without_a_state_is_one_line(folder):
    path = folder / "state.json"
    document = json.loads(path.read_text())
    del document["state"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="expected the state of a training"):
        check_checkpoint(folder)


def test_a_disk_that_refuses_keeps_the_checkpoint(folder, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ComputationError, match="No space left"):
            SafeCheckpointIO().save_checkpoint(CHECKPOINT | {"epoch": 4}, folder)
    assert SafeCheckpointIO().load_checkpoint(folder)["epoch"] == 3


def test_a_mixed_pair_is_refused(tmp_path):
    write_pair(tmp_path, "state", {"a": torch.ones(2)}, {})
    text = (tmp_path / "state.json").read_text()
    write_pair(tmp_path, "state", {"a": torch.zeros(2)}, {})
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InputError, match="do not belong together"):
        read_pair(tmp_path, "state", what="checkpoint")
