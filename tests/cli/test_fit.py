"""The command ``fit``: every option arrives, what it shows, and what a run leaves behind."""

# ruff: noqa: ARG001  (fixtures act by being there)
import json
import sys
import time

import click
import pytest

from deeph_zero.cli.fit import fit, fit_config, in_words_of
from deeph_zero.cli.options import Invocation
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.settings import config


def test_promised_defaults(folder, run, engine):
    assert run("fit", "good.xyz").code == 0
    call = engine.calls[0]
    method = call["config"].method
    assert (method.basis, method.xc, method.charge, method.spin) == ("def2-svp", "pbe", 0, 0)
    assert (method.grid_level, method.density_fit, method.auxbasis) == (3, True, None)
    assert str(call["out"]) == "good_run"
    assert call["resume"] is False
    assert call["command"] == "deeph-zero fit good.xyz"
    assert call["config"].runtime.started <= time.monotonic()


def test_every_fit_option_arrives(folder, run, engine):
    result = run(
        "fit", "good.xyz", "frames.xyz", "-o", "deep/er/run", "--basis", "sto-3g", "--xc", "b3lyp",
        "--charge", "1", "--spin", "1", "--grid-level", "1",
        "--no-density-fit", "--unrestricted", "--break-symmetry", "--loss", "energy", "--steps",
        "9", "--tol", "1e-4", "--samples", "4", "--displace", "0.1", "--init", "model",
        "--skip-bad", "--max-time", "1h30m", "--device", "cpu", "--threads", "1", "--seed", "7",
        "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    call = engine.calls[0]
    expected = config.FitConfig.parse(
        {
            "method": {
                "basis": "sto-3g", "xc": "b3lyp", "charge": 1, "spin": 1,
                "grid_level": 1, "density_fit": False, "unrestricted": True,
                "break_symmetry": True,
            },
            "runtime": {
                "device": "cpu", "threads": 1, "seed": 7, "max_time": 5400,
                "started": call["config"].runtime.started,
            },
            "loss": "energy", "steps": 9, "conv_tol_grad": 1e-4, "samples": 4, "displace": 0.1,
            "init": "model",
            "skip_bad": True, "data": {"train": ["good.xyz", "frames.xyz"]},
        }
    )  # fmt: skip
    assert call["config"] == expected
    assert [m.charge for m in call["molecules"]] == [1] * 4
    assert str(call["out"]) == "deep/er/run"
    assert json.loads(result.out)["fock_builds"] == 7
    (line,) = result.err.splitlines()
    assert "--init model was trained with" in line
    assert "this run has --xc b3lyp, --no-density-fit, --grid-level 1 as stated" in line


OTHER_OPTIONS = {
    "--density-fit", "--unrestricted", "--break-symmetry", "--stream", "--skip-bad", "--resume",
    "--overwrite", "--json", "--verbose", "--quiet", "--output", "--max-time", "--init", "--epochs",
    "--allow-close-contacts",
}  # fmt: skip
"""Switches, and options that other tests give."""


VALUES = {
    "basis": "sto-3g", "xc": "b3lyp", "auxbasis": "def2-universal-jkfit", "charge": 2, "spin": 2,
    "grid_level": 1, "loss": "energy", "steps": 9, "conv_tol_grad": 1e-4, "samples": 4,
    "displace": 0.1, "sampling": "normal-modes", "temperature": 77.0, "calibration": 19,
    "validation": 0.2, "inputs": "geometry", "memory_mb": 123.0, "disk_mb": 45.0,
    "jk_dtype": "float32", "workers": 3, "device": "cpu", "threads": 1, "seed": 7,
    "two_grids": False,
}  # fmt: skip


OF_CRYSTALS = {
    "kmesh": (2, 2, 1), "kspacing": 0.3, "pseudo": "gth-pade", "ke_cutoff": 40.0, "dimension": 2,
    "smearing": 0.01, "strain": 0.02, "supercell": (2, 1, 1),
}  # fmt: skip


def test_no_fit_option_is_forgotten(folder, run, engine):
    """Every option of the command is given alone and looked for in the settings."""
    cell = 'Lattice="4 0 0 0 4 0 0 0 12" pbc="T T T"'
    (folder / "layer.xyz").write_text(f"2\n{cell}\nH 0 0 0\nH 0 0 0.75\n")
    for option in fit.params:
        flags = {*option.opts, *option.secondary_opts}
        if isinstance(option, click.Argument) or flags & OTHER_OPTIONS:
            continue
        value = (VALUES | OF_CRYSTALS)[option.name]
        copies = {"displace", "sampling", "temperature", "strain", "supercell"}
        needs = ["--samples", "2"] if option.name in copies else []
        needs += ["--sampling", "normal-modes"] if option.name == "temperature" else []
        each = value if isinstance(value, tuple) else (value,)
        words = [option.opts[0], *(str(v) for v in each if v is not False), *needs]
        name = "layer.xyz" if option.name in OF_CRYSTALS else "frames.xyz"
        result = run("fit", name, "-o", f"run_{option.name}", "-q", *words)
        assert result.code == 0, (words, result.err)
        found = engine.calls[-1]["config"].model_dump()
        sections = [found, *(part for part in found.values() if isinstance(part, dict))]
        values = [part[option.name] for part in sections if option.name in part]
        assert value in values, words


def test_table_and_next_step(folder, run, engine):
    result = run("fit", "good.xyz")
    # one structure: a quantity a line, which fits any terminal
    pairs = [line.rsplit(maxsplit=1) for line in result.out.splitlines()]
    cells = {pair[0].strip(): pair[1] for pair in pairs if len(pair) == 2}
    assert cells["energy at the network's density"] == "-76.32100000"
    assert cells["converged"] == "yes"
    assert "good.xyz:0" in result.out
    assert "7 Fock builds, 1.2 s, converged" in result.out
    assert "written: good_run/" in result.out
    assert "next: deeph-zero predict good_run STRUCTURES" in result.out
    assert result.err == ""


def test_not_converged_is_exit_one_and_kept(folder, run, engine, make_summary):
    engine.result = lambda entries, failed: make_summary(
        [e | {"converged": False} for e in entries],
        failed=failed, converged=False, stopped_by="max_time",
    )  # fmt: skip
    result = run("fit", "good.xyz")
    assert result.code == 1
    assert result.err.startswith("error: not converged: 1 of 1 structures, stopped by max_time")
    assert result.err.count("\n") == 1
    assert "--resume" in result.err
    assert (folder / "good_run" / "model.json").exists()


def test_skipped_frames_are_no_failure_but_later_ones_are(folder, run, engine, make_summary):
    good = (folder / "good.xyz").read_text()
    (folder / "mix.xyz").write_text(good + good.replace("0.76", "nan") + good)
    late = {"file": "mix.xyz", "frame": 2, "error": "expected a finite energy, got nan"}
    engine.result = lambda entries, failed: make_summary(entries[:1], failed=[*failed, late])
    result = run("fit", "mix.xyz", "--skip-bad")
    assert result.code == 1
    assert "1 of 2 structures failed, the first one mix.xyz frame 2" in result.err
    engine.result = lambda entries, failed: make_summary(entries, failed=failed)
    assert run("fit", "mix.xyz", "--skip-bad", "--overwrite").code == 0


def test_resume_reaches_the_engine(folder, run, engine):
    assert run("fit", "good.xyz").code == 0
    assert run("fit", "good.xyz").code == 2
    assert run("fit", "good.xyz", "--resume").code == 0
    assert [call["resume"] for call in engine.calls] == [False, True]


def test_overwrite_starts_from_nothing(folder, run, engine):
    run("fit", "good.xyz")
    (folder / "good_run" / "model.json").write_text("old")
    (folder / "good_run" / "mine.csv").write_text("mine")
    assert run("fit", "good.xyz", "--overwrite").code == 0
    assert (folder / "good_run" / "model.json").read_text() == "{}"
    assert (folder / "good_run" / "mine.csv").exists()


def test_interrupt_is_130_and_says_how_to_go_on(folder, run, engine):
    engine.error = KeyboardInterrupt()
    result = run("fit", "good.xyz", "-o", "my run")
    assert result.code == 130
    assert result.err.count("\n") == 1
    assert "deeph-zero fit good.xyz -o 'my run' --resume" in result.err
    assert (folder / "my run" / "checkpoints").is_dir()


def test_late_input_error_leaves_no_folder(folder, run, engine, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise InputError("found late")

    monkeypatch.setattr(sys.modules["deeph_zero.train.fit"], "run_fit", refuse)
    assert run("fit", "good.xyz", "-o", "a/b/run").code == 2
    assert not (folder / "a").exists()


def options(**given):
    """Those of the command, as click hands them over."""
    context = click.Context(fit, obj=Invocation())
    values = {p.name: p.get_default(context) for p in fit.params}
    return values | {"structures": ("a.xyz",), "verbose": 0} | given


def test_an_option_of_copies_needs_copies_though_it_says_the_default():
    with pytest.raises(InputError, match=r"^--displace: expected --samples N beside it; say how"):
        fit_config(options(displace="0.05"), 0.0)


def test_what_has_no_effect_is_one_line_of_warning(folder, run, engine):
    result = run("fit", "good.xyz", "--auxbasis", "weigend", "--no-density-fit")
    assert result.code == 0
    assert result.err.count("--auxbasis: expected --density-fit with it") == 1
    assert "it has no effect" in " ".join(result.err.split())
    (folder / "c.toml").write_text('data.train = ["good.xyz"]\ntraining.stream_visits = 3\n')
    words = " ".join(run("train", "c.toml").err.split())
    assert "c.toml: training.stream_visits: expected training.stream with it; it has no" in words


def test_a_model_to_start_from_brings_its_inputs():
    with pytest.raises(InputError, match="--inputs and --init exclude each other: m has its own"):
        fit_config(options(inputs="geometry", init="m"), 0.0)


def test_options_become_sections():
    found = fit_config(
        options(steps="7", basis="sto-3g", kmesh=("2", "2", "1"), threads="1", validation="0.2"),
        3.5,
    )
    assert found.steps == 7
    assert found.method.model_fields_set == {"basis"}
    assert found.crystal.kmesh == (2, 2, 1)
    assert (found.runtime.threads, found.runtime.started) == (1, 3.5)
    assert found.data.train == ("a.xyz",)
    assert found.data.validation == 0.2


@pytest.mark.parametrize(
    ("source", "text", "line"),
    [
        (None, "--steps: too few", "--steps: too few"),
        ("run.toml", "--steps: too few", "run.toml: training.steps: too few"),
        ("run.toml", "[model] elements: no U", "run.toml: [model] elements: no U"),
        ("run.toml", "h.xyz frame 0: leave --spin out", "h.xyz frame 0: leave method.spin out"),
        ("run.toml", "use --resume", "use --resume"),
    ],
)
def test_a_settings_file_is_named_where_it_is_about_its_settings(source, text, line):
    train = click.Command("train", params=[click.Option(["--resume"])])
    with click.Context(train), pytest.raises(InputError) as info, in_words_of(source):
        raise InputError(text)
    assert str(info.value) == line


@pytest.mark.parametrize(
    ("error", "made", "line"),
    [
        ("disk full; free some space and run it again", True, "run it again with --resume"),
        ("disk full; free some space and run it again", False, "free some space and run it again"),
        ("no SCF converged", True, "no SCF converged"),
    ],
)
def test_a_full_disk_says_how_to_go_on(folder, run, engine, *, error, made, line):
    def compute(config, molecules, failed, out, **_rest):
        if made:
            (out / "config.json").write_text("{}")
        raise ComputationError(error)

    sys.modules["deeph_zero.train.fit"].run_fit = compute
    result = run("fit", "good.xyz", "-q")
    assert result.code == 1
    assert result.err.endswith(line + "\n")


def test_structures_to_measure_on_are_of_the_same_elements_and_kind(folder, run, engine):
    (folder / "sulfide.xyz").write_text((folder / "good.xyz").read_text().replace("O ", "S "))
    cell = 'Lattice="9 0 0 0 9 0 0 0 9" pbc="T T T"'
    (folder / "cell.xyz").write_text(
        (folder / "good.xyz").read_text().replace("3\n", f"3\n{cell}", 1)
    )
    for name, words in (
        ("sulfide.xyz", "sulfide.xyz frame 0: expected elements of the model (O, H), got S"),
        ("cell.xyz", "--validation cell.xyz: expected structures of the kind that is trained on"),
        ("none.xyz", "none.xyz: "),
    ):
        result = run("fit", "good.xyz", "--validation", name)
        assert result.code == 2
        assert words.replace("O, H", "H, O") in result.err or words in result.err
        assert result.err.count("\n") == 1
        assert not (folder / "good_run").exists()
