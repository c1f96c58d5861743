"""Before training: which geometries are prepared, of what, and what is said or refused."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deeph_zero.data.labels import LabelStore
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.runtime import Deadline
from deeph_zero.train import prepare as module
from deeph_zero.train.plan import MAX_CHECKED
from deeph_zero.train.prepare import TimeIsUpError, prepare
from deeph_zero.train.run import Roles

from . import hydrogen as h

LOST = ComputationError("the integrals do not fit")


def two(out, **values):
    return h.run(out, [h.hydrogen(0), h.hydrogen(1)], **values)


@pytest.fixture
def fails_at(monkeypatch):
    """Makes the geometries of one frame fail."""
    real = module.make_problem

    def at(frame, error=LOST):
        def make(molecule, *args, **settings):
            if molecule.frame == frame:
                raise error
            return real(molecule, *args, **settings)

        monkeypatch.setattr(module, "make_problem", make)

    return at


def test_frames_are_prepared_in_order_at_the_networks_settings(tmp_path):
    run = two(tmp_path)
    network = prepare(run, trained=False)
    problems = run.geometries.problems
    assert [p.molecule.frame for p in problems] == [p.position for p in problems] == [0, 1]
    assert network.spec.cutoff == h.CUTOFF
    assert network.dtype == torch.float64
    assert network.training
    assert [p.ks.fock_builds for p in problems] == [1, 1]
    wanted = h.problem(1, base=network.spec.base, balanced=network.spec.balanced)
    torch.testing.assert_close(problems[1].fock0, wanted.fock0)
    assert run.reporter.messages == run.reporter.warnings == []
    assert len(run.geometries.store) == 2


def test_the_seed_says_which_network(tmp_path):
    weights = []
    for seed in (1, 1, 2):
        network = prepare(h.run(tmp_path, runtime={"seed": seed}), trained=False)
        weights.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_frames_with_other_roles_are_not_trained_on(tmp_path):
    molecules = [h.hydrogen(k) for k in range(4)]
    run = h.run(tmp_path, molecules)
    run.roles = Roles(held_out=(1,), measuring=(2,), validation=(h.hydrogen(9),))
    prepare(run, trained=False)
    assert [p.position for p in run.geometries.problems] == [0, 3]
    validators = run.geometries.validators
    assert [(p.position, p.molecule.frame) for p in validators] == [(None, 9), (2, 2)]
    for p in validators:  # solved: they measure
        fock = p.label.fock if p.label is not None else p.teacher.target
        assert p.teacher.rms(p.ks.build(p.ks.density(fock)).fock, p.ks.density(fock)) < 1e-4


def test_displaced_copies_belong_to_no_frame(tmp_path):
    run = h.run(tmp_path, samples=2, displace=0.03)
    prepare(run, trained=False)
    assert [p.position for p in run.geometries.problems] == [0, None, None]
    shifts = [
        np.abs(p.molecule.coords - h.hydrogen().coords).max() for p in run.geometries.problems
    ]
    assert shifts[0] == 0.0 < min(shifts[1:])


@pytest.mark.parametrize("skip", [False, True])
def test_a_frame_that_fails_stops_or_is_left_out(tmp_path, fails_at, skip):
    fails_at(1)
    run = two(tmp_path, skip_bad=skip)
    if not skip:
        with pytest.raises(ComputationError, match=r"^h2\.xyz frame 1: the integrals do not fit$"):
            prepare(run, trained=False)
        return
    prepare(run, trained=False)
    assert [p.position for p in run.geometries.problems] == [0]
    assert run.results.failed == [{"file": "h2.xyz", "frame": 1, "error": str(LOST)}]
    assert run.reporter.warnings == ["h2.xyz frame 1: left out: the integrals do not fit"]


def test_an_error_that_names_its_place_names_it_once(tmp_path, fails_at):
    fails_at(0, InputError("h2.xyz frame 0: expected something else"))
    with pytest.raises(InputError, match=r"^h2\.xyz frame 0: expected something else$"):
        prepare(two(tmp_path), trained=False)


def test_a_copy_that_fails_is_no_frame_of_the_user(tmp_path, monkeypatch):
    real = module.make_problem

    def make(molecule, *args, **settings):
        if not np.array_equal(molecule.coords, h.hydrogen().coords):
            raise LOST
        return real(molecule, *args, **settings)

    monkeypatch.setattr(module, "make_problem", make)
    run = h.run(tmp_path, samples=1)
    prepare(run, trained=False)
    assert len(run.geometries.problems) == 1
    assert run.results.failed == []
    assert len(run.reporter.warnings) == 1


def test_nothing_to_train_on_is_an_error(tmp_path, fails_at):
    fails_at(0)
    with pytest.raises(ComputationError, match="no geometry could be prepared; see the warnings"):
        prepare(h.run(tmp_path, skip_bad=True), trained=False)


def late(run):
    run.runtime = dataclasses.replace(run.runtime, deadline=Deadline(-1.0))
    return run


@pytest.mark.parametrize(
    ("values", "words"),
    [({}, "0 of 1 geometries were prepared"), ({"samples": 2}, "copies of 0 of 1 structures")],
    ids=str,
)
def test_time_that_is_up_says_how_far_it_came(tmp_path, values, words):
    with pytest.raises(TimeIsUpError, match=words):
        prepare(late(h.run(tmp_path, **values)), trained=False)


def test_memory_that_does_not_do_is_said_once(tmp_path):
    run = two(tmp_path, memory_mb=0.001)
    prepare(run, trained=False)
    (text,) = run.reporter.messages
    assert "of 2 geometries fit in 0 MB" in text
    assert "computed again when they are used (disk_mb writes" in text
    (warning,) = run.reporter.warnings
    assert "use fewer frames or a larger memory_mb" in warning
    run.release()


def test_a_degenerate_ground_state_is_said_once(tmp_path):
    """A hole in a π level, along z: the grid is as symmetric as the molecule."""
    coords = np.array([[0, 0, 0], [0, 0, 1.84]])
    oh = h.hydrogen(numbers=np.array([8, 1]), coords=coords, spin=1)
    for broken in (False, True):
        run = h.run(tmp_path, [oh], method={"basis": "sto-3g", "break_symmetry": broken})
        prepare(run, trained=False)
        said = [w for w in run.reporter.warnings if "degenerate (1 of 1 geometries)" in w]
        assert len(said) == (0 if broken else 1)


def test_room_is_kept_for_elements_to_come(tmp_path):
    narrow = prepare(h.run(tmp_path), trained=False).spec.layout
    wide = prepare(h.run(tmp_path, model={"elements": ["S"]}), trained=False).spec.layout
    assert narrow.shells == wide.shells
    assert wide.slots[0] > narrow.slots[0]
    assert len(wide.slots) > len(narrow.slots)


def test_a_model_of_another_basis_is_no_start(tmp_path, monkeypatch):
    model = SimpleNamespace(method=dataclasses.replace(h.METHOD, basis="def2-svp"))
    monkeypatch.setattr(module, "load", lambda _: model)
    with pytest.raises(
        InputError, match="init='a_run': expected a model for basis '6-31g', got on"
    ):
        prepare(h.run(tmp_path, init="a_run"), trained=False)


def test_a_stream_needs_more_geometries_than_are_solved(tmp_path):
    run = h.run(tmp_path, samples=1, stream=True)
    with pytest.raises(
        InputError, match=f"stream=True: expected more than {MAX_CHECKED} .*, got 2"
    ):
        prepare(run, trained=False)


class Labels(LabelStore):
    """Labels of even frames."""

    def __init__(self):
        pass

    def index(self, molecule):
        return None if molecule.frame % 2 else molecule.frame


@pytest.mark.parametrize(
    "case",
    [
        (9, "supervised", "geometry", True, 5),
        (8, "supervised", "geometry", True, 0),
        (9, "supervised", "physics", True, 0),
        (9, "auto", "geometry", True, 0),
        (9, "supervised,energy", "geometry", True, 0),
        (9, "supervised", "geometry", False, 0),
    ],
)
def test_which_geometries_labels_alone_teach(tmp_path, case):
    """Many of them, where no loss and no input needs a build: those that have a label."""
    n, loss, inputs, labels, expected = case
    run = h.run(tmp_path, loss=loss)
    store = Labels() if labels else None
    molecules = [h.hydrogen(k) for k in range(n)]
    found = module._labels_alone(run, h.network(inputs=inputs), store, molecules)
    assert [one is not None for one in found] == [bool(expected) and k % 2 == 0 for k in range(n)]
