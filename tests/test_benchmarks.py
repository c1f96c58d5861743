"""Benchmarks start without a file of anybody's: they make their structures, or take examples."""

import argparse
import contextlib
import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deeph_zero.errors import InputError

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("bench_*.py"))


@pytest.fixture
def script(monkeypatch):
    """A benchmark as a module, started with the given options."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def start(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *words])
        return importlib.import_module(name)

    return start


@pytest.mark.parametrize("name", SCRIPTS)
def test_needs_no_option_and_no_file_from_outside(name, script, monkeypatch):
    common = script("common")

    def stop(parser):
        given = original(parser)
        seen.append(given)
        return given

    seen: list[argparse.Namespace] = []
    original = common.parse
    monkeypatch.setattr(common, "parse", stop)
    module = script(name)
    for word in ("parse", "options"):
        if callable(parse := getattr(module, word, None)):
            parse()
            paths = [value for value in vars(seen[0]).values() if isinstance(value, Path)]
            assert all(path.is_relative_to(FOLDER.parent) for path in paths)
            return
    assert "required=True" not in (FOLDER / f"{name}.py").read_text()


def test_made_frames_differ_and_follow_the_seed(script):
    structures = script("structures")
    given = argparse.Namespace(data=None, molecule="uracil")
    train, test = structures.split(given, 3, 2, seed=1)
    assert [len(train), len(test)] == [3, 2]
    assert all(m.natm == 12 for m in train + test)
    coords = np.stack([m.coords for m in train + test])
    gaps = np.abs(coords[:, None] - coords[None]).max((-1, -2))
    assert gaps[np.triu_indices(5, k=1)].min() > 0.01, "bohr"
    again = structures.split(given, 3, 2, seed=1)[0]
    other = structures.split(given, 3, 2, seed=2)[0]
    assert np.array_equal(again[0].coords, train[0].coords)
    assert not np.array_equal(other[0].coords, train[0].coords)
    assert structures.source(given) == "uracil (vibrations, 600 K)"


def test_a_file_is_taken_in_place_of_made_frames(script):
    structures = script("structures")
    given = argparse.Namespace(data=structures.EXAMPLES / "water_frames.xyz", molecule="benzene")
    train, test = structures.split(given, 12, 8, seed=0)
    assert {m.natm for m in train + test} == {3}
    assert len({(m.file, m.frame) for m in train + test}) == 20
    assert [m.frame for m in structures.frames(given, 2, skip=4)] == [4, 12]
    assert structures.source(given) == "water_frames.xyz"
    with pytest.raises(InputError, match="expected 21 frames or more, got 20"):
        structures.split(given, 20, 1, seed=0)


def test_a_file_and_a_molecule_are_not_both_taken(script, capsys):
    parser = argparse.ArgumentParser()
    script("structures").add_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--data", "a.xyz", "--molecule", "uracil"])
    assert "not allowed with" in capsys.readouterr().err


def test_an_unknown_molecule_names_the_known_ones(script):
    with pytest.raises(InputError, match=r"out of ammonia, aspirin, .*uracil.*, got 'watr'"):
        script("structures").named("watr")


def test_small_molecules_have_closed_shells(script):
    found = script("structures").small_organic()
    assert len(found) > 60
    assert all(sum(atoms.numbers) % 2 == 0 for atoms in found)
    assert {int(z) for atoms in found for z in atoms.numbers} == {1, 6, 7, 8, 9}


def test_a_stage_on_a_card_ends_at_its_limit(script, monkeypatch, tmp_path):
    bench, stages = script("bench_gpu"), script("gpu_stages")

    def training(run):
        run.note("training", begun=True)
        with contextlib.suppress(Exception):  # as a command does
            time.sleep(30)
        run.note("training", came_through=True)

    def micro(_):
        raise RuntimeError("out of sorts")

    monkeypatch.setattr(bench, "STAGES", (training, micro))
    run = stages.Run(stages.SMALL, "cpu", tmp_path / "out.jsonl", None)
    for stage in (training, micro):
        bench.run_stage(run, stage.__name__, 0.05)
    lines = [json.loads(line) for line in run.out.read_text().splitlines()]
    assert [line.get("state") for line in lines] == [
        None, "out of time", "failed: RuntimeError: out of sorts",
    ]  # fmt: skip


def test_a_stage_that_hangs_or_dies_ends_no_other(script, monkeypatch, tmp_path):
    bench, stages = script("bench_gpu"), script("gpu_stages")
    run = stages.Run(stages.SMALL, "cpu", tmp_path / "out.jsonl", None)
    real = bench.subprocess.Popen
    for code in ("import time; time.sleep(30)", "import os; os.abort()"):
        start = lambda *_, code=code: real([sys.executable, "-S", "-c", code])  # noqa: E731
        monkeypatch.setattr(bench.subprocess, "Popen", start)
        bench.run_apart(run, "micro", 0.3 if "sleep" in code else 30.0, ())
    states = [json.loads(line)["state"] for line in run.out.read_text().splitlines()]
    assert states[0].startswith("killed: ")
    assert states[1] == "failed: the process ended with code -6"
