"""A stream of geometries: what replaces what, when, and that nothing piles up."""

import copy

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.molecule import Molecule
from deeph_zero.nn.reading import Reading
from deeph_zero.prepared.molecule import Means, basis_layout, build_mole, same_data
from deeph_zero.settings.config import FitConfig, MethodConfig
from deeph_zero.train import prepare as prepare_module
from deeph_zero.train.budget import Budget, Lessons
from deeph_zero.train.fit import run_fit
from deeph_zero.train.store.cache import HeavyStore
from deeph_zero.train.stream import Stream
from deeph_zero.train.taught import make_problem

CONFIG = MethodConfig(basis="sto-3g", grid_level=0)
METHOD = CONFIG.as_method()
WATER = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])


def molecule(shift=0.0):
    coords = WATER + shift * np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz", frame=0)


def problem(shift=0.0):
    one = molecule(shift)
    reading = Reading(basis_layout([build_mole(one, basis="sto-3g")]), cutoff=8.0)
    return make_problem(one, METHOD, reading, Means(ao_memory_mb=1.0))


def make(place, generation):
    if generation == 2:
        raise ComputationError("expected atoms apart")
    return problem(0.01 * place + 0.05 * generation)


def test_copies_leave_after_their_visits_and_builds_stay_counted():
    problems = [problem(), problem(0.01), problem(0.02)]
    stream = Stream(problems, [1, 2], make, visits=4)
    lessons = Lessons(problems, Budget(ratio=0.1, first=1))
    lessons.errors = [1.0, 2.0, 3.0]
    whole = []
    for step in range(14):
        stream.visit([0, 1, 2], lessons, remaining=100.0 - step)
        whole.append([float(p.molecule.coords[1, 1]) - WATER[1, 1] for p in problems])
    first, second, third = np.array(whole).T
    assert set(first) == {0.0}, "frames stay"
    # generation 2 could not be made: generation 1 stays for another round
    np.testing.assert_allclose(second, 3 * [0.01] + 8 * [0.06] + 3 * [0.16], atol=1e-12)
    np.testing.assert_allclose(third, 5 * [0.02] + 8 * [0.07] + [0.17], atol=1e-12)
    assert stream.replaced == 4
    assert [p.ks.fock_builds for p in problems] == [1, 3, 3]
    assert lessons.errors[0] == 1.0
    assert lessons.errors[1] == float("inf")
    assert not problems[1].teacher.started


def test_nobody_new_comes_near_the_end():
    problems = [problem()]
    stream = Stream(problems, [0], make, visits=4)
    lessons = Lessons(problems, Budget())
    for _ in range(20):
        stream.visit([0], lessons, remaining=3.9)
    assert stream.replaced == 0


def test_a_restored_stream_has_the_same_geometries():
    problems, again = ([problem(0.01), problem(0.02)] for _ in range(2))
    stream = Stream(problems, [0, 1], make, visits=3)
    lessons = Lessons(problems, Budget())
    for _ in range(9):  # generation 2 fails here, and after the restart
        stream.visit([0, 1], lessons, remaining=100.0)
    other = Stream(again, [0, 1], make, visits=3)
    other.restore(copy.deepcopy(stream.state()))
    for ours, theirs in zip(problems, again, strict=True):
        assert (ours.molecule.coords == theirs.molecule.coords).all()
        assert torch.equal(ours.fock0, theirs.fock0)
    assert other.state() == stream.state()


def test_a_place_in_the_store_is_used_again():
    store = HeavyStore(0.35, disk_mb=2.0)
    problems = [problem(0.01 * k) for k in range(3)]

    def adopt(one, key=None):
        guess = one.ks.data.dm_guess
        return store.adopt(one, lambda: same_data(one.molecule, METHOD, guess), key)

    problems = [adopt(one) for one in problems]
    want = []
    for k, one in enumerate(problems):
        want.append(one.ks.build(one.ks.data.dm_guess).fock)
        store.get(k)
    light, needed = store.light_bytes, store.needed_bytes
    assert store.n_written > 0
    one_place = store._written / store.n_written
    for generation in range(1, 4):
        for k in range(3):
            store.release(k)
            fresh = problem(0.01 * k + 0.1 * generation)
            want[k] = fresh.ks.build(fresh.ks.data.dm_guess).fock
            problems[k] = adopt(fresh, k)
        for k, one in enumerate(problems):
            assert torch.equal(one.ks.build(one.ks.data.dm_guess).fock, want[k])
    assert len(store) == 3
    # packed inputs leave zeros out, and a few elements round to zero in one geometry only
    assert store.light_bytes == pytest.approx(light, rel=0.01)
    assert store.needed_bytes == pytest.approx(needed, rel=0.05)
    assert store._written <= 3 * (1 + 5 / 4 + 1) * one_place
    store.close()
    assert store.used_bytes <= store.memory_bytes or store.n_kept == 1


def fit(tmp_path, **values):
    config = FitConfig.parse(
        {
            "method": CONFIG.model_dump(),
            "runtime": {"threads": 1, "device": "cpu", "seed": 0},
            "samples": 9,
            "stream": True,
            "epochs": 8,
        }
        | values
    )
    frames = [molecule()]
    keywords = {"resume": False, "reporter": SilentReporter(), "command": "fit"}
    return run_fit(config, frames, [], tmp_path, **keywords)


def test_a_run_sees_more_geometries_than_it_holds(tmp_path, monkeypatch):
    drawn = []
    own = prepare_module.displaced

    def watched(*arguments):
        found = own(*arguments)
        drawn.extend(m.coords.tobytes() for m in found)
        return found

    monkeypatch.setattr(prepare_module, "displaced", watched)
    summary = fit(tmp_path, stream_visits=2)
    assert summary["geometries_replaced"] > 9
    assert len(drawn) == 9 + summary["geometries_replaced"]
    assert len(set(drawn)) == len(drawn), "no geometry comes twice"
    assert summary["n_structures"] == 1
    # each costs F0 and at least one more; the certificate one
    assert summary["fock_builds"] >= 2 * (10 + summary["geometries_replaced"])


def test_too_few_geometries_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"stream=True: expected more than 8 geometries.* got 4"):
        fit(tmp_path, samples=3)


def test_a_stream_needs_samples_and_one_process():
    with pytest.raises(InputError, match="--stream: expected --samples N"):
        FitConfig.parse({"stream": True})
    with pytest.raises(InputError, match="--stream: expected one process, got 2"):
        FitConfig.parse({"stream": True, "samples": 20, "devices": 2})
