"""`deeph-zero train`: one engine with `fit`, settings from a file, the run repeatable from it."""

import json
import tomllib
from pathlib import Path

import h5py
import pytest
from safetensors.torch import load_file

HEAD = '[data]\ntrain = ["frames.xyz"]\n[method]\nbasis = "sto-3g"\ngrid_level = 0\n'
SMALL = '[model]\nsize = "tiny"\n[runtime]\ndevice = "cpu"\nthreads = 1\n[training]\n'


@pytest.fixture
def place(folder):
    """``frames.xyz`` with three different waters, and ``c.toml``."""
    frame = "3\n\nO 0 0 0.1\nH 0 {} 0.58\nH 0.05 -0.74 0.61\n"
    (folder / "frames.xyz").write_text("".join(frame.format(y) for y in (0.76, 0.78, 0.72)))
    (folder / "c.toml").write_text(
        HEAD + SMALL + "steps = 3\nbatch_size = 2\nconv_tol_grad = 1e-12\n"
    )
    return folder


@pytest.mark.usefixtures("place")
def test_settings_reach_the_engine(run, engine):
    done = run("train", "c.toml", "-o", "run", "--seed", "4", "--max-time", "1m")
    assert done.code == 0, done.err
    (call,) = engine.calls
    config = call["config"]
    assert (config.method.basis, config.model.size, config.steps) == ("sto-3g", "tiny", 3)
    assert (config.runtime.seed, config.runtime.max_time, config.runtime.threads) == (4, 60.0, 1)
    assert config.data.train == ("frames.xyz",)
    assert [m.frame for m in call["molecules"]] == [0, 1, 2]
    assert call["out"] == Path("run")


@pytest.mark.usefixtures("place")
def test_the_output_has_the_name_of_the_file(run, engine):
    assert run("train", "c.toml").code == 0
    assert engine.calls[0]["out"] == Path("c_run")
    again = run("train", "c.toml")
    assert again.code == 2
    assert "use --resume or --overwrite" in again.err
    assert run("train", "c.toml", "--overwrite").code == 0


def test_print_config_loads(place, run):
    printed = run("train", "--print-config")
    assert printed.code == 0
    assert "# Orbital basis set that PySCF knows." in printed.out
    (place / "printed.toml").write_text(printed.out)
    again = run("train", "printed.toml", "--print-config")
    assert (again.code, again.out) == (0, printed.out)
    started = run("train", "printed.toml")
    assert started.code == 2
    assert "data.train: expected structure files, got none" in started.err
    merged = run("train", "c.toml", "--print-config")
    assert tomllib.loads(merged.out)["training"]["steps"] == 3


CASES = {
    "no file": (["train"], "expected CONFIG.toml, got none"),
    "missing": (["train", "no.toml"], "no.toml: expected a settings file, there is none"),
    "unknown key": (["train", "key.toml"], "key.toml: unknown setting 'training.stepz'; did you"),
    "wrong type": (["train", "type.toml"], "type.toml: training.steps: expected a whole number"),
    "no TOML": (["train", "broken.toml"], "broken.toml: not TOML at line 2"),
    "option": (["train", "c.toml", "--threads", "0"], "--threads: expected a whole number"),
    "model": (["train", "c.toml", "--init", "nothing"], "--init nothing: expected a model"),
    "no structures": (["train", "gone.toml"], "gone.xyz: expected a structure file"),
    "no labels": (["train", "sup.toml"], "the supervised loss needs data.labels"),
    "labels unused": (["train", "lab.toml"], "expected training.loss with supervised in it"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_one_line_and_leaves_nothing(place, run, case):
    (place / "key.toml").write_text(HEAD + SMALL + "stepz = 3\n")
    (place / "type.toml").write_text(HEAD + SMALL + "steps = 'three'\n")
    (place / "broken.toml").write_text("[training]\nsteps three\n")
    (place / "gone.toml").write_text(HEAD.replace("frames", "gone"))
    (place / "sup.toml").write_text(HEAD + SMALL + "loss = 'supervised'\n")
    (place / "lab.toml").write_text(HEAD.replace("\n[method]", '\nlabels = ["l.h5"]\n[method]'))
    before = sorted(p.name for p in place.iterdir())
    arguments, words = CASES[case]
    done = run(*arguments)
    assert done.code == 2, done.err
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert sorted(p.name for p in place.iterdir()) == before


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(bool((a[k] == b[k]).all()) for k in a)


def test_the_kept_settings_repeat_the_run(place, run):
    first = run("train", "c.toml", "-o", "one", "-q")
    assert first.code == 1, "nothing converges to 1e-12"
    kept = tomllib.loads((place / "one/config.toml").read_text())
    assert kept["training"]["loss"] == "fixed-point"
    assert kept["training"]["learning_rate"] > 0
    assert kept["data"]["train"] == [str(place / "frames.xyz")]
    run("train", "one/config.toml", "-o", "two", "-q")
    assert same(weights(place / "one"), weights(place / "two"))
    summaries = [json.loads((place / n / "summary.json").read_text()) for n in ("one", "two")]
    for entry in (e for s in summaries for e in s["structures"]):
        entry["file"] = Path(entry["file"]).name  # as typed, and as kept
    assert summaries[0]["structures"] == summaries[1]["structures"]
    # the same engine as fit, whose network is larger by default
    fitted = run("fit", "frames.xyz", "-o", "three", "--basis", "sto-3g", "--grid-level", "0",
                 "--steps", "2", "--tol", "1e-12", "--device", "cpu",
                 "--threads", "1", "-q")  # fmt: skip
    assert fitted.code == 1
    assert tomllib.loads((place / "three/config.toml").read_text())["training"]["steps"] == 2
    run("train", "three/config.toml", "-o", "four", "-q")
    assert same(weights(place / "three"), weights(place / "four"))


def test_resume_goes_on(place, run):
    assert run("train", "c.toml", "-o", "one", "-q").code == 1
    (place / "c.toml").write_text((place / "c.toml").read_text().replace("steps = 3", "steps = 6"))
    assert run("train", "c.toml", "-o", "one", "-q", "--resume").code == 1
    rows = (place / "one/metrics.csv").read_text().splitlines()
    assert len(rows) == 2
    assert rows[-1].startswith("6,0,"), "fifteen batches make an epoch: it was left in its middle"
    (place / "c.toml").write_text((place / "c.toml").read_text().replace("tiny", "small"))
    other = run("train", "c.toml", "-o", "one", "--resume")
    assert other.code == 2
    assert "got another size" in other.err


def test_supervised_training_and_fine_tuning(place, run):
    small = ["--basis", "sto-3g", "--grid-level", "0", "--device", "cpu", "--threads", "1", "-q"]
    assert run("label", "frames.xyz", "-o", "l.h5", *small).code == 0
    text = HEAD.replace("\n[method]", '\nlabels = ["l.h5"]\n[method]') + SMALL
    (place / "s.toml").write_text(text + "loss = 'supervised'\nepochs = 3\n")
    done = run("train", "s.toml", "-o", "sup", "-q", "--init", "model")
    assert done.code in (0, 1), done.err
    kept = tomllib.loads((place / "sup/config.toml").read_text())
    assert kept["training"]["init"] == str(place / "model")
    assert kept["data"]["labels"] == [str(place / "l.h5")]
    run("evaluate", "model", "l.h5", "-o", "before.json", "--no-scf", "-q")
    run("evaluate", "sup", "l.h5", "-o", "after.json", "--no-scf", "-q")
    errors = [json.loads((place / f"{n}.json").read_text())["errors"] for n in ("before", "after")]
    assert errors[1]["fock"]["mae"]["mean"] < 0.2 * errors[0]["fock"]["mae"]["mean"]
    with h5py.File(place / "l.h5", "r+") as handle:
        handle["0001"].attrs["grid_level"] = 2
    other = run("train", "s.toml", "-o", "sup2")
    assert other.code == 2
    assert "l.h5 frame 1: expected a label of the same method, got grid level 2" in other.err
    with h5py.File(place / "l.h5", "r+") as handle:
        del handle["0001"]
    missing = run("train", "s.toml", "-o", "sup2")
    assert missing.code == 2
    assert "expected a label for every structure, got 2 for 3" in missing.err
