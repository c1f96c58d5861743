"""Entries of summaries: nulls for what was not computed, one line for many, causes of failures."""

import json
import time

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError, InputError, words_of_the_command_line
from deeph_zero.host.runtime import Deadline, Runtime
from deeph_zero.ks.certificate import Certificate
from deeph_zero.ks.counts import Builds
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule, State
from deeph_zero.predict.record import (
    bare_record,
    failure,
    hint_entry,
    method_attributes,
    structure_record,
    summary,
    warn_hints,
    warn_outside,
)
from deeph_zero.testing import Listener

MOLECULE = Molecule(
    numbers=np.array([8, 1]), coords=np.zeros((2, 3)), charge=-1, file="oh.xyz", frame=4
)
CERTIFICATE = Certificate(
    energy=-74.5, energy_error_estimate=0.25, energy_estimate=-74.75, orbital_gradient_rms=1e-3,
    homo=-0.3, lumo=0.1, gap=0.4, coupled=True, stable=True, degenerate=False,
)  # fmt: skip


def full(**changed):
    given = {
        "certificate": CERTIFICATE, "dipole": np.array([0.5, 0, -1.0]), "n_electrons": 10.01,
        "spin_square": None, "residual_mae": 2e-4, "converged": True,
    }  # fmt: skip
    return structure_record(MOLECULE, **given | changed)


def test_an_entry_is_json_and_says_where_it_is_from():
    entry = full()
    assert json.loads(json.dumps(entry)) == entry
    assert [entry[k] for k in ("file", "frame", "charge", "spin")] == ["oh.xyz", 4, -1, 0]
    assert entry["energy_estimate"] == entry["energy"] - entry["energy_error_estimate"]
    assert [entry[k] for k in ("homo", "lumo", "gap")] == [-0.3, 0.1, 0.4]
    assert entry["dipole"] == [0.5, 0.0, -1.0]
    assert "spin_square" not in entry
    assert full(spin_square=0.75)["spin_square"] == 0.75


@pytest.mark.parametrize("converged", [None, False])
def test_what_was_not_computed_is_null(converged):
    entry = bare_record(MOLECULE, converged=converged)
    assert list(entry) == list(full())
    there = ("file", "frame", "charge", "spin")
    assert {entry[k] for k in entry if k not in (*there, "converged")} == {None}
    assert entry["converged"] is converged


def whole(**changed):
    given = {
        "command": "deeph-zero label oh.xyz", "method": Method(auxbasis="weigend"),
        "state": State(-1, 2),
        "runtime": Runtime(device=torch.device("cpu"), threads=3, seed=7, deadline=Deadline()),
        "started": time.monotonic() - 5.0, "structures": [full()], "failed": [],
        "stopped_by": None, "builds": Builds(11, 22),
    }  # fmt: skip
    return summary(**given | changed)


def test_a_summary_has_the_method_the_state_and_the_cost():
    found = whole()
    assert json.loads(json.dumps(found)) == found
    expected = {
        "xc": "pbe", "basis": "def2-svp", "auxbasis": "weigend", "grid_level": 3,
        "density_fit": True, "charge": -1, "spin": 2, "seed": 7, "threads": 3, "device": "cpu",
        "n_structures": 1, "fock_builds": 11, "coarse_builds": 22, "format_version": 1,
    }  # fmt: skip
    assert {k: found[k] for k in expected} == expected
    assert 5.0 <= found["wall_time_s"] < 500.0


@pytest.mark.parametrize(
    ("changed", "converged"),
    [
        ({}, True),
        ({"structures": []}, True),
        ({"structures": [full(converged=None)]}, True),
        ({"structures": [full(), full(converged=False)]}, False),
        ({"failed": [{"file": "x", "frame": 0, "error": "e"}]}, False),
        ({"stopped_by": "max_time"}, False),
    ],
)
def test_all_that_was_asked_for_was_reached_or_not(changed, converged):
    assert whole(**changed)["converged"] is converged


LONG_BASIS = 'BASIS "ao basis" PRINT\nO S\n 1.0 1.0\nH S\n 0.5 1.0\nC S\n 2.0 1.0\nEND\n'


def test_attributes_of_a_group_have_the_functions_of_its_elements():
    found = method_attributes(MOLECULE, Method(basis=LONG_BASIS, auxbasis="weigend"))
    assert "C " not in found["basis"].replace("BASIS", "")
    assert "O " in found["basis"]
    assert "H " in found["basis"]
    named = method_attributes(MOLECULE, Method(basis="sto-3g", density_fit=False))
    assert (named["basis"], named["auxbasis"], named["density_fit"]) == ("sto-3g", None, False)
    with pytest.raises(InputError, match="resolved method"):
        method_attributes(MOLECULE, Method())


# ---- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ComputationError("no end\nsecond line"), "no end"),
        (InputError("oh.xyz frame 4: expected x"), "expected x"),
        (InputError("other.xyz frame 4: expected x"), "other.xyz frame 4: expected x"),
        (KeyError(), "KeyError"),
        (RuntimeError("CUDA error\nlong story"), "CUDA error"),
    ],
)
def test_a_failure_is_its_first_line_without_its_place(error, text):
    assert failure(MOLECULE, error) == {"file": "oh.xyz", "frame": 4, "error": text}


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize("kind", [MemoryError, OutOfMemoryError])
def test_what_does_not_fit_has_a_cure(kind):
    text = failure(MOLECULE, kind("Unable to allocate " + "x" * 500))["error"]
    assert text.startswith("out of memory (Unable to allocate")
    assert "use a smaller basis, fewer workers or a machine" in text
    assert len(text) < 250
    assert failure(MOLECULE, kind())["error"].startswith("out of memory (")


# ---- hints ---------------------------------------------------------------------------------------


def test_a_hint_speaks_the_readers_words():
    assert hint_entry(None) == {}
    assert "break_symmetry=True" in hint_entry(-0.0512)["hint"]
    assert "-0.051 Eh" in hint_entry(-0.0512)["hint"]
    with words_of_the_command_line():
        assert "--break-symmetry of fit and label, or --spin 2" in hint_entry(-0.05)["hint"]


def entry(frame, **more):
    return {"file": "a.xyz", "frame": frame} | more


def test_many_hints_are_one_line():
    told = Listener()
    warn_hints([entry(0), entry(1, hint="open shell"), entry(2, hint="open shell")], told)
    assert told.warnings == ["a.xyz frame 1 (2 of 3 structures): open shell"]
    alone = Listener()
    warn_hints([entry(0, hint="open shell")], alone)
    assert alone.warnings == ["a.xyz frame 0: open shell"]


def test_doubts_are_said_where_nothing_was_refined():
    told = Listener()
    doubtful = [entry(0, doubts=["a", "b"], refined_energy=-1.0), entry(1, doubts=["a", "b"])]
    warn_hints(doubtful, told)
    (line,) = told.warnings
    assert line.startswith("a.xyz frame 1 (1 of 2 structures): a; b: do not trust it; refine=1e-05")
    quiet = Listener()
    warn_hints([entry(0), entry(1)], quiet)
    warn_outside([entry(0), entry(1, out_of_distribution=[])], quiet)
    assert quiet.warnings == []


def test_reasons_of_many_structures_are_told_once_and_not_all():
    told = Listener()
    reasons = [["r1", "r2"], ["r2", "r3"], ["r4", "r5"]]
    warn_outside([entry(k, out_of_distribution=r) for k, r in enumerate(reasons)], told)
    (line,) = told.warnings
    assert line.startswith("a.xyz frame 0 (3 of 3 structures): outside what the model was checked")
    assert line.endswith(": r1; r2; r3; and 2 more")
