"""Training within little memory: what is computed again or read back changes no bit."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.errors import InputError
from deeph_zero.ks.linalg.packed import pack_antisymmetric, pack_symmetric
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.reading import Reading
from deeph_zero.prepared.molecule import AO_MEMORY_MB, Means, basis_layout, build_mole, same_data
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener, distorted_waters
from deeph_zero.train.fit import run_fit
from deeph_zero.train.store.cache import HeavyStore, heavy_bytes, memory_limit_mb
from deeph_zero.train.store.compact import light_bytes
from deeph_zero.train.taught import make_problem

N = 10


def problem_of(molecule, method, ao_memory_mb=1.0):
    layout = basis_layout([build_mole(molecule, basis=method.basis)])
    return make_problem(
        molecule, method, Reading(layout, cutoff=14.0), Means(ao_memory_mb=ao_memory_mb)
    )


def adopt(store, problem, method):
    """As a run does it."""

    def again():
        return same_data(kept.molecule, method, kept.ks.data.dm_guess, Means(ao_memory_mb=1.0))

    kept = store.adopt(problem, again)
    return kept


METHODS = {
    "pbe": Method(basis="sto-3g", grid_level=0),
    "wb97x": Method(basis="sto-3g", grid_level=0, xc="wb97x", unrestricted=True),
    "exact": Method(basis="sto-3g", grid_level=0, xc="hf", density_fit=False),
}


@pytest.mark.parametrize("disk_mb", [0.0, 100.0])
@pytest.mark.parametrize("name", METHODS)
def test_builds_of_a_released_geometry_are_the_same(name, disk_mb, tmp_path):
    method = METHODS[name]
    problems = [problem_of(m, method) for m in distorted_waters(3)]
    before = [p.ks.build(p.ks.data.dm_guess) for p in problems]
    dipoles = [p.ks.data.dipole for p in problems]
    store = HeavyStore(1e-6, disk_mb, tmp_path)
    problems = [adopt(store, problem, method) for problem in problems]
    assert store.n_kept == 1
    for _ in range(2):
        for problem, build, dipole in zip(problems, before, dipoles, strict=True):
            again = problem.ks.build(problem.ks.data.dm_guess)
            assert torch.equal(again.fock, build.fock)
            assert again.energy == build.energy
            assert torch.equal(problem.ks.data.dipole, dipole)
            assert store.n_kept == 1
    assert (store.rebuilt, store.read) == ((0, 6) if disk_mb else (6, 0))
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_nonlocal_correlation_comes_back(tmp_path):
    method = Method(basis="sto-3g", grid_level=0, xc="wb97x-v")
    helium = Molecule(numbers=np.array([2]), coords=np.array([[0.1, 0.2, 0.3]]), file="he.xyz")
    problem = problem_of(helium, method)
    nlc = problem.ks.data.nlc
    store = HeavyStore(1e-6, 100.0, tmp_path)
    problem = adopt(store, problem, method)
    adopt(store, problem_of(distorted_waters(1)[0], METHODS["pbe"]), METHODS["pbe"])
    again = problem.ks.data.nlc
    assert (again is not nlc, store.read) == (True, 1)
    assert again.terms == nlc.terms
    assert torch.equal(again.points.coords, nlc.points.coords)
    assert torch.equal(again.grid.block(0).ao, nlc.grid.block(0).ao)
    store.close()


def test_sizes_cover_what_is_held():
    method = METHODS["wb97x"]
    problem = problem_of(distorted_waters(1)[0], method)
    ks = problem.ks
    ks.build(ks.data.dm_guess)
    held = sum(op.cderi.nbytes + op._full.nbytes for _, op in ks.data.exchange)
    held += ks.data.grid.kept_bytes + ks.data.grid.coords.nbytes + ks.data.dipole.nbytes
    assert held <= heavy_bytes(ks) <= 1.5 * held


def equal(one, other):
    """Whether two values of network inputs are the same, tensors bit by bit."""
    if isinstance(one, BlockPattern):
        names = ("pairs", "cells", "dense_places")
        return all(equal(getattr(one, n), getattr(other, n)) for n in names)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_what_always_stays_is_counted():
    """Filled up as training does it, the tensors of a geometry are those that were announced."""
    problem = problem_of(distorted_waters(1)[0], METHODS["wb97x"])
    inputs, wanted = problem.inputs, light_bytes(problem)
    problem = adopt(HeavyStore(1e-6), problem, METHODS["wb97x"])
    teacher = problem.teacher
    dm, fock = problem.ks.data.dm_guess, problem.fock0
    for _ in range(teacher.diis.space + 2):
        both = torch.stack([fock, dm])
        error = teacher.ks.commutator(fock, dm)
        teacher.diis.add(pack_symmetric(both), pack_antisymmetric(error))
    teacher.target = fock.clone()
    frame = problem.target_orbitals()
    held = [problem.fock0, problem.ks.x, teacher.target, frame.mo_coeff]
    held += [*teacher.diis.focks, *teacher.diis.errors]
    small = sum(x.nbytes for x in held) + problem.stored.nbytes
    assert small < light_bytes(problem) < small + 4 * fock.nbytes
    assert light_bytes(problem) < 0.7 * wanted
    for name, value in vars(inputs).items():
        again = getattr(problem.inputs, name)
        pairs = zip(value, again, strict=True) if isinstance(value, tuple) else [(value, again)]
        assert all(equal(*p) for p in pairs)


def test_geometries_that_fit_are_never_made_again():
    method = METHODS["pbe"]
    problems = [problem_of(m, method) for m in distorted_waters(4)]
    store = HeavyStore(1e3)
    problems = [adopt(store, problem, method) for problem in problems]
    assert store.holds_all
    for k in (3, 1, 2, 0, 2, 3):
        problems[k].ks.build(problems[k].ks.data.dm_guess)
    assert (store.n_kept, store.rebuilt) == (4, 0)


def test_part_stays_through_shuffled_epochs():
    """Half of it fits: far fewer than half of the visits would hit with least-recently-used."""
    method = METHODS["pbe"]
    problems = [problem_of(m, method) for m in distorted_waters(8)]
    size = max(heavy_bytes(p.ks) for p in problems)
    store = HeavyStore((sum(map(light_bytes, problems)) + 4.2 * size) / 1e6)
    problems = [adopt(store, problem, method) for problem in problems]
    assert not store.holds_all
    rng, visits = np.random.default_rng(0), 0
    for _ in range(6):
        for k in rng.permutation(8):
            store.get(int(k))
            visits += 1
            assert store.used_bytes + store.light_bytes <= store.memory_bytes
    assert 0.4 * visits < store.rebuilt < 0.75 * visits


def test_stale_geometries_make_room():
    method = METHODS["pbe"]
    problems = [problem_of(m, method) for m in distorted_waters(4)]
    size = heavy_bytes(problems[0].ks)
    store = HeavyStore((sum(map(light_bytes, problems)) + 3.2 * size) / 1e6)
    problems = [adopt(store, problem, method) for problem in problems]
    for _ in range(20):  # 0 and 1 have converged: nobody asks for them
        for k in (2, 3):
            store.get(k)
    before = store.rebuilt
    for k in (2, 3, 2, 3):
        store.get(k)
    assert store.rebuilt == before


def test_a_full_disk_falls_back_to_computing(tmp_path):
    method = METHODS["pbe"]
    problems = [problem_of(m, method) for m in distorted_waters(3)]
    build = problems[0].ks.build(problems[0].ks.data.dm_guess)
    store = HeavyStore(1e-6, 0.1, tmp_path)
    problems = [adopt(store, problem, method) for problem in problems]
    for problem in problems:
        problem.ks.build(problem.ks.data.dm_guess)
    assert store.n_written < 3
    assert store.rebuilt > 0
    assert torch.equal(problems[0].ks.build(problems[0].ks.data.dm_guess).fock, build.fock)
    store.close()


def test_a_disk_that_fails_is_told_once(tmp_path, caplog):
    method = METHODS["pbe"]
    problems = [problem_of(m, method) for m in distorted_waters(3)]
    store = HeavyStore(1e-6, 100.0, tmp_path / "nowhere")
    problems = [adopt(store, problem, method) for problem in problems]
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    problems[0].ks.build(problems[0].ks.data.dm_guess)
    assert (store.rebuilt, store.n_written) == (1, 0)


def fit(out, reporter, **values):
    out.mkdir()
    config = FitConfig.parse(
        {
            "method": {"basis": "sto-3g", "grid_level": 0},
            "runtime": {"device": "cpu", "threads": 1},
            "model": {"size": "tiny"},
            "epochs": 3,
            "batch_size": 4,
            "calibration": 0,
        }
        | values
    )
    return run_fit(
        config,
        distorted_waters(N),
        [],
        out,
        resume=False,
        reporter=reporter,
        command="deeph-zero fit w.xyz",
    )


@pytest.mark.parametrize("loss", ["fixed-point", "self-consistency"])
def test_weights_do_not_depend_on_memory(tmp_path, loss):
    reporter = Listener()
    whole = fit(tmp_path / "whole", reporter, loss=loss)
    assert "integrals" not in whole
    assert not any("fit in" in text for text in reporter.messages)
    method = METHODS["pbe"]
    one = problem_of(distorted_waters(1)[0], method, ao_memory_mb=AO_MEMORY_MB / N)
    budget = (N * light_bytes(one) + 2.3 * heavy_bytes(one.ks)) / 1e6
    for name, disk_mb in (("again", 0.0), ("disk", 1000.0)):
        reporter = Listener()
        told = fit(tmp_path / name, reporter, loss=loss, memory_mb=budget, disk_mb=disk_mb)
        assert sum("integrals of 2 of 10" in text for text in reporter.messages) == 1
        assert told["integrals"]["read" if disk_mb else "computed_again"] >= N
        assert told["fock_builds"] == whole["fock_builds"]
        first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", name))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
        energies = [[e["energy"] for e in run["structures"]] for run in (whole, told)]
        assert energies[0] == energies[1]
        names = {p.name for p in (tmp_path / name).iterdir()}
        assert names == {p.name for p in (tmp_path / "whole").iterdir()}
        assert json.loads((tmp_path / name / "summary.json").read_text())["integrals"]


def test_limits_are_shared_by_processes():
    assert memory_limit_mb(300.0, torch.device("cpu"), 3) == 100.0
    free = memory_limit_mb(None, torch.device("cpu"), 1)
    assert 0 < free < 1e7


@pytest.mark.parametrize("values", [{"memory_mb": 0}, {"disk_mb": -1}])
def test_limits_are_checked(values):
    with pytest.raises(InputError):
        FitConfig.parse(values)
