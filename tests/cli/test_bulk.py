"""One HDF5 file of many structures: the place is checked twice, what is missing is an error."""

import pytest

from deeph_zero.cli.bulk import Bulk
from deeph_zero.data.structures import BadFrame
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.settings.config import RuntimeConfig

OPTIONS = {"resume": False, "overwrite": False, "quiet": True, "as_json": False}
RUNTIME = RuntimeConfig(device="cpu", threads=1, verbose=-1)


def bulk(out, *inputs, **options):
    return Bulk(out, OPTIONS | options, inputs, "deeph-zero label a.xyz")


def computed(entries, failed=(), **more):
    plain = {"xc": "pbe", "basis": "sto-3g", "structures": entries, "failed": list(failed),
             "converged": True, "stopped_by": None, "fock_builds": 1}  # fmt: skip
    return plain | more


@pytest.mark.parametrize(
    ("name", "inputs", "options", "words"),
    [
        ("o.txt", (), {}, "ending in .h5"),
        ("taken.h5", (), {}, "exists and is not empty"),
        ("taken.h5", ("taken.h5",), {"overwrite": True}, "is an input of the same command"),
        ("o.h5", (), {"resume": True}, "expected an unfinished .*there is none"),
        ("o.h5", (), {"resume": True, "overwrite": True}, "exclude each other"),
    ],
)
def test_a_place_that_cannot_be_is_refused_first(tmp_path, name, inputs, options, words):
    (tmp_path / "taken.h5").write_bytes(b"x")
    with pytest.raises(InputError, match=words):
        bulk(tmp_path / name, *(tmp_path / one for one in inputs), **options).begin(RUNTIME)


def test_the_engine_is_told_of_bad_frames_and_of_the_command(tmp_path):
    one = bulk(tmp_path / "deep/er/o.h5", resume=False)
    reporter, runtime = one.begin(RUNTIME)
    assert runtime.threads == 1
    told = {}

    def compute(failed, **rest):
        told.update(rest, failed=failed)
        return computed([{"converged": True}])

    assert one.run(compute, ["a molecule"], [BadFrame("a.xyz", 3, "wrong")], reporter) == 0
    assert told["failed"] == [{"file": "a.xyz", "frame": 3, "error": "wrong"}]
    assert told["command"] == "deeph-zero label a.xyz"
    assert (told["resume"], told["overwrite"], told["reporter"]) == (False, False, reporter)
    assert (tmp_path / "deep/er").is_dir()


@pytest.mark.parametrize(
    ("summary", "asked", "words"),
    [
        (
            computed([{}], converged=False, stopped_by="max_time"),
            3,
            "1 of 3 .*; go on with --resume",
        ),
        (computed([{"converged": False}], converged=False), 1, "not converged: 1 of 1 structures"),
        (
            computed([{}], [{"file": "a.xyz", "frame": 0, "error": "wrong"}]),
            2,
            "1 of 2 structures failed, the first one a.xyz frame 0: wrong",
        ),
    ],
)
def test_what_is_missing_is_an_error_after_the_summary(tmp_path, summary, asked, words):
    one = bulk(tmp_path / "o.h5")
    reporter, _ = one.begin(RUNTIME)
    with pytest.raises(ComputationError, match=words):
        one.run(lambda *_, **__: summary, ["m"] * asked, [], reporter)
