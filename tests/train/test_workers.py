"""Integrals ahead of need in training: the same weights, and the right ones at the right time."""

import json

import pytest
import torch
from safetensors.torch import load_file

from deeph_zero.errors import InputError
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener, distorted_waters
from deeph_zero.train.fit import run_fit

SMALL = {"memory_mb": 0.6}
CASES = {
    "again": ({}, SMALL),
    "energy": ({"loss": "energy"}, SMALL),
    "stream": ({"samples": 9, "stream": True, "stream_visits": 2}, {}),
    "validation": ({"data": {"validation": 0.2}}, SMALL),
    "rounded": ({"jk_dtype": "float32"}, {"memory_mb": 0.4}),
}
"""What both runs have, and what the one with more workers has besides."""


def fit(out, **values):
    method = {"basis": "sto-3g", "grid_level": 0}
    runtime = {"threads": 1, "device": "cpu"}
    model = {"size": "tiny"}
    given = {"method": method, "runtime": runtime, "model": model, "epochs": 4, "calibration": 0}
    config = FitConfig.parse(given | values)
    molecules = distorted_waters(1 if values.get("stream") else 10)
    out.mkdir()
    return run_fit(
        config, molecules, out=out, failed=[], resume=False, reporter=Listener(), command="test"
    )


@pytest.mark.parametrize("name", CASES)
def test_neither_workers_nor_memory_change_a_bit(name, tmp_path):
    both, more = CASES[name]
    found = [fit(tmp_path / "1", workers=1, **both), fit(tmp_path / "2", workers=2, **both, **more)]
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("1", "2"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    entries = [entry["energy"] for entry in found[0]["structures"]]
    assert entries == [entry["energy"] for entry in found[1]["structures"]]
    assert ("integrals" in found[1]) == bool(more)
    assert "integrals" not in found[0]


def test_libraries_of_several_threads_round_differently_at_most(tmp_path):
    alone, helped = (fit(tmp_path / f"{n}", workers=n, **SMALL) for n in (0, 1))
    assert helped["integrals"] == alone["integrals"]
    assert helped["integrals"]["computed_again"] > 10
    assert helped["fock_builds"] == alone["fock_builds"]
    for entry, other in zip(helped["structures"], alone["structures"], strict=True):
        assert entry["energy"] == pytest.approx(other["energy"], abs=1e-6)


def test_not_with_several_processes():
    with pytest.raises(InputError, match="--workers"):
        FitConfig.parse({"workers": 1, "devices": 2})


def test_streams_order_the_next_copy(tmp_path):
    found = fit(tmp_path / "run", **CASES["stream"][0], workers=1, epochs=8)
    assert found["geometries_replaced"] > 9
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["fock_builds"] > 9
