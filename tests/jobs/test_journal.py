"""The journal of a batch: what was written is read, whatever ended the process that wrote it."""

import dataclasses

import numpy as np
import pytest

from deeph_zero.errors import ComputationError, InputError, words_of_the_command_line
from deeph_zero.host import files, outputs
from deeph_zero.host.files import journal_beside
from deeph_zero.jobs import journal
from deeph_zero.jobs.journal import Journal, Record, decode, digest, encode
from deeph_zero.molecule import Molecule

FACTS = {"command": "label", "xc": "pbe", "conv_tol": 1e-9}


def structure(frame=0, **changed):
    coords = np.array([[0.1, 0, 0], [0.2, 0.3, 1.3 + 0.1 * frame]])
    one = Molecule(numbers=np.array([8, 1]), coords=coords, spin=1, file="oh.xyz", frame=frame)
    return dataclasses.replace(one, **changed)


def record(index=0):
    rng = np.random.default_rng(index)
    arrays = {
        "fock": rng.normal(size=(2, 3, 3)),
        "blocks": rng.normal(size=4) + 1j * rng.normal(size=4),
        "numbers": np.array([8, 1]),
        "rounded": rng.normal(size=3).astype(np.float32),
        "turned": rng.normal(size=(2, 3)).T,
        "flag": np.array([True, False]),
        "none": np.empty((0, 3)),
        "energy": np.float64(-1.0 / 3.0),
    }
    return Record(
        index=index,
        digest=digest(structure(index)),
        arrays=arrays,
        attributes={
            "xc": "pbe",
            "converged": None,
            "kmesh": np.array([2, 1, 1]),
            "name": "Ångström",
        },
        entry={"energy": -75.1 / 3, "homo": [-0.1, None], "frame": index},
        auxbasis=None if index % 2 else "weigend",
        fock_builds=index + 3,
        coarse_builds=7,
    )


def written(out, count=3, **settings):
    """An unfinished journal; returns what is in it."""
    kept = Journal(out, FACTS, resume=False, **settings)
    for k in range(count):
        kept.append(k, digest(structure(k)), encode(record(k)))
    kept.close(remove=False)
    return journal_beside(out).read_bytes()


def reopened(out, facts=FACTS):
    return Journal(out, facts, resume=True)


def same(found, wanted):
    for name, value in wanted.arrays.items():
        assert found.arrays[name].dtype == np.asarray(value).dtype
        assert found.arrays[name].shape == np.asarray(value).shape
        np.testing.assert_array_equal(found.arrays[name], value)
    assert found.attributes == dict(wanted.attributes) | {"kmesh": [2, 1, 1]}
    for name in ("index", "digest", "entry", "auxbasis", "fock_builds", "coarse_builds"):
        assert getattr(found, name) == getattr(wanted, name)


def test_every_number_comes_back_as_it_was():
    same(decode(encode(record(1))), record(1))


def test_what_was_not_computed_is_left_out():
    one = dataclasses.replace(record(), arrays={"fock": np.ones((1, 1)), "forces": None})
    assert list(decode(encode(one)).arrays) == ["fock"]


def test_results_come_in_the_order_of_the_structures(tmp_path):
    out = tmp_path / "o.h5"
    kept = Journal(out, FACTS, resume=False)
    for k in (2, 0, 1):
        kept.append(k, digest(structure(k)), encode(record(k)))
    assert [len(kept), 1 in kept, 3 in kept] == [3, True, False]
    for k, found in enumerate(kept.records()):
        same(found, record(k))
    kept.append(5, digest(structure(5)), encode(record(5)))  # records were read in between
    kept.close(remove=False)
    again = reopened(out)
    assert [r.index for r in again.records()] == [0, 1, 2, 5]
    again.close(remove=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"charge": 1},
        {"spin": 3},
        {"file": "other.xyz"},
        {"frame": 1},
        {"numbers": np.array([16, 1])},
        {"coords": structure().coords + 1e-15},
        {"lattice": np.eye(3)},
    ],
    ids=str,
)
def test_a_fingerprint_tells_structures_apart(changed):
    assert digest(structure(**changed)) != digest(structure())
    assert digest(structure(**changed)) == digest(structure(**changed))


@pytest.mark.parametrize(
    "changed",
    [{"pbc": (True, True, False)}, {"moments": (1.0, -1.0)}, {"lattice": 2 * np.eye(3)}],
    ids=str,
)
def test_a_fingerprint_tells_crystals_apart(changed):
    crystal = structure(lattice=np.eye(3), pbc=(True, True, True))
    assert digest(dataclasses.replace(crystal, **changed)) != digest(crystal)


def test_a_kill_at_any_byte_keeps_the_records_that_were_whole(tmp_path):
    out = tmp_path / "o.h5"
    data = written(out)
    part = journal_beside(out)
    ends = [data.index(b"DZ0J", start) for start in (0, 1)]
    while (nxt := data.find(b"DZ0J", ends[-1] + 1)) >= 0:
        ends.append(nxt)
    ends.append(len(data))
    assert len(ends) == 5  # the beginning, and three records
    for cut in sorted(
        {*range(ends[1], len(data), 97), *(e + d for e in ends[1:] for d in (-1, 0))}
    ):
        if cut < ends[1]:
            continue
        part.write_bytes(data[:cut])
        kept = reopened(out)
        assert len(kept) == sum(end <= cut for end in ends[2:]), cut
        assert part.stat().st_size == max(end for end in ends[1:] if end <= cut)
        kept.close(remove=False)


@pytest.mark.parametrize("place", [0, 5, 30])
def test_a_flipped_bit_drops_what_begins_there(tmp_path, place):
    out = tmp_path / "o.h5"
    data = bytearray(written(out))
    starts = [k for k in range(len(data)) if data[k : k + 4] == b"DZ0J"]
    data[starts[2] + place] ^= 4  # of the second record
    journal_beside(out).write_bytes(data)
    kept = reopened(out)
    assert [r.index for r in kept.records()] == [0]
    kept.append(1, digest(structure(1)), encode(record(1)))
    kept.close(remove=False)
    again = reopened(out)
    assert [r.index for r in again.records()] == [0, 1]
    again.close(remove=True)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (FACTS | {"conv_tol": 1e-7}, "begun with conv_tol 1e-09, this is 1e-07"),
        (FACTS | {"refine": 1e-5}, "begun with refine none, this is 1e-05"),
        ({"command": "label", "xc": "pbe"}, "begun with conv_tol 1e-09, this is none"),
        (FACTS | {"xc": "x" * 50}, f"begun with xc pbe, this is {'x' * 37}\\.\\.\\."),
    ],
)
def test_results_of_something_else_are_named_and_kept(tmp_path, facts, words):
    data = written(tmp_path / "o.h5")
    with pytest.raises(InputError, match=words) as caught:
        reopened(tmp_path / "o.h5", facts)
    assert "overwrite=True" in str(caught.value)
    assert journal_beside(tmp_path / "o.h5").read_bytes() == data


def test_settings_have_the_names_of_their_options(tmp_path):
    out = tmp_path / "o.h5"
    facts = {"command": "label", "xc": "pbe", "crystal": {"kmesh": [1, 1, 1], "smearing": 0.0}}
    Journal(out, facts, resume=False).close(remove=False)
    for changed, words in (
        ({"xc": "lda"}, "--xc pbe, this is lda"),
        ({"crystal": {"kmesh": [1, 1, 1], "smearing": 0.1}}, "--smearing 0.0, this is 0.1"),
        ({"source_format": "qh9"}, "--from none, this is qh9"),
        ({"command": "predict"}, "command label, this is predict"),
    ):
        with (
            words_of_the_command_line(),
            pytest.raises(InputError, match=f"o.h5 was begun with {words}; give the same"),
        ):
            reopened(out, facts | changed)


def test_facts_are_compared_as_json_has_them(tmp_path):
    out = tmp_path / "o.h5"
    Journal(out, {"kmesh": (2, 1, 1), "out": tmp_path}, resume=False).close(remove=False)
    reopened(out, {"kmesh": [2, 1, 1], "out": str(tmp_path)}).close(remove=True)


def test_another_version_of_the_format_is_named(tmp_path, monkeypatch):
    written(tmp_path / "o.h5")
    monkeypatch.setattr(journal, "FORMAT_VERSION", 2)
    with pytest.raises(InputError, match="has format 1, this version writes 2"):
        reopened(tmp_path / "o.h5")


def test_structures_are_checked_against_their_results(tmp_path):
    written(tmp_path / "o.h5")
    kept = reopened(tmp_path / "o.h5")
    kept.check(1, structure(1))
    kept.check(7, structure(1))  # there is no result of it
    with pytest.raises(InputError, match=r"another structure in the place of oh\.xyz frame 2"):
        kept.check(1, structure(2))
    kept.check_count(3)
    with pytest.raises(InputError, match="begun with 3 structures or more, got 2"):
        kept.check_count(2)
    kept.close(remove=True)


def test_files_that_are_no_journal_are_left_alone(tmp_path):
    part = journal_beside(tmp_path / "o.h5")
    part.write_bytes(b"the only copy of something")
    with pytest.raises(InputError, match="this is another file"):
        Journal(tmp_path / "o.h5", FACTS, resume=False)
    with pytest.raises(InputError, match="damaged at its beginning"):
        reopened(tmp_path / "o.h5")
    assert part.read_bytes() == b"the only copy of something"


@pytest.mark.parametrize("left", [0, 2, 60])
def test_a_kill_within_the_first_record_lost_nothing(tmp_path, left):
    out = tmp_path / "o.h5"
    Journal(out, FACTS, resume=False).close(remove=False)
    begun = journal_beside(out).read_bytes()
    journal_beside(out).write_bytes(begun[:left])
    again = reopened(out)
    assert len(again) == 0
    again.append(0, digest(structure(0)), encode(record(0)))
    again.close(remove=False)
    again = reopened(out)
    assert [r.index for r in again.records()] == [0]
    again.close(remove=False)
    journal_beside(out).write_bytes(begun[:left] + b"x" * left)
    if left:
        with pytest.raises(InputError, match="damaged at its beginning"):
            reopened(out)


def test_there_is_nothing_to_go_on_with(tmp_path):
    with pytest.raises(InputError, match=r"resume=True: expected .*o\.h5\.part, there is none"):
        reopened(tmp_path / "o.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_new_journal_drops_an_older_one(tmp_path):
    written(tmp_path / "o.h5")
    Journal(tmp_path / "o.h5", FACTS, resume=False).close(remove=False)
    again = reopened(tmp_path / "o.h5")
    assert len(again) == 0
    again.close(remove=True)


def test_a_disk_that_refuses_a_record_keeps_those_before(tmp_path, monkeypatch):
    out = tmp_path / "o.h5"
    kept = Journal(out, FACTS, resume=False)
    kept.append(0, digest(structure(0)), encode(record(0)))

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(kept, "_write", full)
        with pytest.raises(ComputationError, match=r"No space left on device.*resume=True"):
            kept.append(1, digest(structure(1)), encode(record(1)))
    assert [r.index for r in kept.records()] == [0]
    kept.close(remove=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_disk_that_refuses_the_first_record_names_resume_where_there_is_one(
    tmp_path, monkeypatch, resume
):
    out = tmp_path / "o.h5"
    kept = Journal(out, FACTS, resume=False)
    if resume:  # interrupted before its first result
        kept.close(remove=False)
        kept = reopened(out)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(kept, "_write", full)
        with pytest.raises(ComputationError, match="run it again") as caught:
            kept.append(0, digest(structure(0)), encode(record(0)))
    assert ("resume" in str(caught.value)) == resume
    kept.close(remove=True)


def test_two_commands_cannot_write_one_file(tmp_path):
    out = tmp_path / "o.h5"
    first = Journal(out, {"a": 1}, resume=False)
    for resume in (False, True):
        with pytest.raises(InputError, match="is being written by another deeph-zero"):
            Journal(out, {"a": 1}, resume=resume)
    first.close(remove=False)
    reopened(out, {"a": 1}).close(remove=True)


def test_a_command_that_comes_second_leaves_the_journal_of_the_first(tmp_path, monkeypatch):
    """Even where the first began its own between the second's look and its opening."""
    out = tmp_path / "o.h5"
    begun = []

    def open_late(path, **how):
        if not begun:
            begun.append(path)
            begun[0] = Journal(out, FACTS, resume=False)
        return files.open_own(path, **how)

    monkeypatch.setattr(outputs, "open_own", open_late)
    with pytest.raises(InputError, match="is being written by another deeph-zero"):
        Journal(out, FACTS, resume=False)
    first = begun[0]
    first.append(0, digest(structure(0)), encode(record(0)))
    first.close(remove=False)
    again = reopened(out)
    assert len(again) == 1
    again.close(remove=True)


@pytest.mark.parametrize("resume", [False, True])
def test_what_another_command_finished_meanwhile_stays(tmp_path, monkeypatch, resume):
    """The look is behind the lock: between an earlier look and it, a whole run may end."""
    out = tmp_path / "o.h5"
    if resume:
        written(out)

    def finish_first(path, **how):
        out.write_bytes(b"results of the first")
        path.unlink(missing_ok=True)
        return files.open_own(path, **how)

    monkeypatch.setattr(outputs, "open_own", finish_first)
    words = "expected .*part, there is none" if resume else "o.h5 exists and is not empty"
    with pytest.raises(InputError, match=words):
        Journal(out, FACTS, resume=resume, overwrite=False)
    assert out.read_bytes() == b"results of the first"
    assert not journal_beside(out).exists()


def test_what_another_command_left_meanwhile_stays(tmp_path, monkeypatch):
    out = tmp_path / "o.h5"

    def killed_first(path, **how):
        monkeypatch.setattr(outputs, "open_own", files.open_own)
        written(out)
        return files.open_own(path, **how)

    monkeypatch.setattr(outputs, "open_own", killed_first)
    with pytest.raises(InputError, match="was begun and not finished; use resume=True"):
        Journal(out, FACTS, resume=False, overwrite=False)
    again = reopened(out)
    assert len(again) == 3
    again.close(remove=True)
