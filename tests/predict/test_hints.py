"""A closed shell with a lower open shell gets a line and a ``hint`` in its summary."""

import json

import pytest

from deeph_zero.cli.main import entry_point

H2 = "2\n\nH 0 0 0.1\nH 0.1 0.2 {}\n"
COMMON = ("--device", "cpu", "--threads", "1")
SMALL = ("--basis", "6-31g", "--grid-level", "0", *COMMON)


def hints(path):
    return [entry.get("hint") for entry in json.loads(path.read_text())["structures"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Structures, and a model of the stretched molecule."""
    folder = tmp_path_factory.mktemp("hints")
    (folder / "far.xyz").write_text(H2.format(2.3))
    (folder / "both.xyz").write_text(H2.format(0.85) + H2.format(2.3))
    run = folder / "run"
    call = ["fit", str(folder / "far.xyz"), "-o", str(run), *SMALL, "-q"]
    assert entry_point(call) == 0
    return folder


def said(err):
    return [line for line in err.splitlines() if "unrestricted solution" in line]


def test_fit_says_so(folder):
    (hint,) = hints(folder / "run" / "summary.json")
    assert "--break-symmetry" in hint
    assert "--spin 2" in hint


def test_label_says_so_once_for_all(folder, tmp_path, capfd):
    out = tmp_path / "out.h5"
    call = ["label", str(folder / "both.xyz"), "-o", str(out), *SMALL, "-q"]
    assert entry_point(call) == 0
    none, hint = hints(out.with_suffix(".json"))
    assert none is None
    (line,) = said(capfd.readouterr().err)
    assert line == f"warning: {folder / 'both.xyz'} frame 1 (1 of 2 structures): {hint}"
    assert json.loads(out.with_suffix(".json").read_text())["converged"] is True


@pytest.mark.parametrize("more", [["--break-symmetry"], ["--spin", "2"], ["--unrestricted"]])
def test_open_shells_get_none(folder, tmp_path, capfd, more):
    out = tmp_path / "out.h5"
    call = ["label", str(folder / "far.xyz"), "-o", str(out), *SMALL, "-q", *more]
    assert entry_point(call) == 0
    assert hints(out.with_suffix(".json")) == [None]
    assert said(capfd.readouterr().err) == []


@pytest.mark.parametrize("refine", [True, False])
def test_a_refined_prediction_says_so(folder, tmp_path, capfd, refine):
    out = tmp_path / "out.h5"
    more = ["--refine", "1e-5"] if refine else []
    call = ["predict", str(folder / "run"), str(folder / "both.xyz"), "-o", str(out), *more]
    assert entry_point([*call, *COMMON, "-q"]) == 0
    first, second = hints(out.with_suffix(".json"))
    assert first is None
    assert (second is not None) == refine
    assert len(said(capfd.readouterr().err)) == refine
