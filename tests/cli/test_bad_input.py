"""Wrong input: one line on standard error, exit code 2, nothing left behind."""

import json
from pathlib import Path

import pytest
import torch

WATER = "3\n{}\nO 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n"
H = "1\n{}\nH 0 0 0\n"

FILES: dict[str, str | bytes] = {
    "empty.xyz": "",
    "truncated.xyz": "3\n\nO 0 0 0.1\nH 0 0.76 0.58\n",
    "middle.xyz": WATER.format("") + "3\n\nO 0 0 0\n" + WATER.format(""),
    "junk.xyz": bytes(range(256)) * 4,
    "junk.bin": bytes(range(256)) * 4,
    "element.xyz": WATER.format("").replace("O 0", "Qq 0"),
    "letters.xyz": WATER.format("").replace("0.76", "O.76"),
    "nan.xyz": WATER.format("").replace("0.76", "nan"),
    "inf.xyz": WATER.format("").replace("0.76", "-inf"),
    "point.xyz": WATER.format("").replace("0.05 -0.74 0.61", "0 0.76 0.58"),
    "close.xyz": WATER.format("").replace("0.05 -0.74 0.61", "0 0.3 0.4"),
    "triplet.xyz": "2\nspin=3\nO 0 0 0\nO 0 0 1.2\n",
    "none.xyz": "0\n\n",
    "periodic.xyz": WATER.format('Lattice="9 0 0 0 9 0 0 0 9" pbc="T T T"'),
    "halfcharge.xyz": WATER.format("charge=0.5"),
    "wordcharge.xyz": WATER.format("charge=plus"),
    "negspin.xyz": WATER.format("spin=-2"),
    "radical.xyz": "2\n\nO 0 0 0\nH 0 0 0.97\n",
    "proton.xyz": H.format("charge=1"),
    "alpha.xyz": H.format("spin=3"),
    "heavy.xyz": "1\ncharge=0\nU 0 0 0\n",
    "neon.xyz": "1\n\nNe 0 0 0\n",
    "count.xyz": WATER.format("").replace("3\n", "2\n", 1),
    "words.xyz": "once upon a time\n",
}

# name: (arguments, words that the line must contain)
CASES: dict[str, tuple[list[str], list[str]]] = {
    "empty file": (["fit", "empty.xyz"], ["empty.xyz", "empty"]),
    "truncated": (["fit", "truncated.xyz"], ["truncated.xyz frame 0", "expected 3 atom lines"]),
    "bad in the middle": (["fit", "middle.xyz"], ["middle.xyz frame 1", "--skip-bad"]),
    "binary xyz": (["fit", "junk.xyz"], ["junk.xyz", "binary"]),
    "binary": (["label", "junk.bin"], ["junk.bin", "format"]),
    "text": (["fit", "words.xyz"], ["words.xyz", "'once upon a time'"]),
    "unknown element": (["fit", "element.xyz"], ["element.xyz frame 0", "'Qq'"]),
    "not a number": (["fit", "letters.xyz"], ["letters.xyz frame 0", "O.76"]),
    "nan": (["fit", "nan.xyz"], ["nan.xyz frame 0", "finite", "nan"]),
    "inf": (["label", "inf.xyz"], ["inf.xyz frame 0", "finite", "-inf"]),
    "one point": (["fit", "point.xyz"], ["point.xyz frame 0", "atoms 2 and 3"]),
    "close contact": (
        ["label", "close.xyz"], ["close.xyz frame 0", "(O, H)", "apart", "--allow-close-contacts"],
    ),
    "multiplicity in file": (
        ["fit", "triplet.xyz"], ["triplet.xyz frame 0", "multiplicity 3 is --spin 2", "2S"],
    ),
    "multiplicity as an option": (
        ["label", "good.xyz", "--spin", "5"], ["multiplicity 5 is --spin 4", "multiplicity - 1"],
    ),
    "multiplicity beyond all": (["fit", "alpha.xyz", "--charge", "-1"], ["--spin 2"]),
    "no atoms": (["fit", "none.xyz"], ["none.xyz frame 0", "no atoms"]),
    "periodic": (
        ["fit", "periodic.xyz", "good.xyz"], ["good.xyz frame 0", "beside a crystal", "molecule"],
    ),
    "half a charge": (["fit", "halfcharge.xyz"], ["halfcharge.xyz frame 0", "'0.5'"]),
    "charge a word": (["fit", "wordcharge.xyz"], ["wordcharge.xyz frame 0", "'plus'"]),
    "spin in file": (["fit", "negspin.xyz"], ["negspin.xyz frame 0", "-2"]),
    "atom count": (["fit", "count.xyz"], ["count.xyz frame 0", "atom count"]),
    "parity": (["fit", "radical.xyz"], ["radical.xyz frame 0", "9 electrons", "--spin 1"]),
    "parity, label": (["label", "radical.xyz"], ["radical.xyz frame 0", "--spin 1"]),
    "parity of an option": (["fit", "good.xyz", "--spin", "1"], ["good.xyz frame 0", "--spin"]),
    "no electrons left": (["fit", "proton.xyz"], ["proton.xyz frame 0", "at least one electron"]),
    "too much charge": (["fit", "good.xyz", "--charge", "30"], ["good.xyz frame 0", "30"]),
    "too much spin": (["fit", "alpha.xyz"], ["alpha.xyz frame 0", "3"]),
    "no basis for it": (["fit", "heavy.xyz"], ["heavy.xyz frame 0", "def2-svp", "U"]),
    "missing file": (["fit", "no.xyz"], ["no.xyz", "there is none"]),
    "missing beside good": (["fit", "good.xyz", "no.xyz"], ["no.xyz", "there is none"]),
    "folder": (["fit", "model"], ["model", "this is a folder"]),
    "functional typo": (["fit", "good.xyz", "--xc", "pbbe"], ["pbbe"]),
    "functional, label": (["label", "good.xyz", "--xc", "b3lypp"], ["b3lypp"]),
    "dispersion": (["fit", "good.xyz", "--xc", "pbe-d3foo"], ["pbe-d3foo", "d3bj"]),
    "empty functional": (["fit", "good.xyz", "--xc", ""], ["--xc", "''"]),
    "basis typo": (["fit", "good.xyz", "--basis", "def2-svpp"], ["def2-svpp"]),
    "basis, label": (["label", "good.xyz", "--basis", "nobasis"], ["nobasis", "--basis"]),
    "fitting typo": (["fit", "good.xyz", "--auxbasis", "def2-jfitt"], ["--auxbasis", "def2-jfitt"]),
    "loss typo": (["fit", "good.xyz", "--loss", "enrgy"], ["--loss", "'enrgy'", "energy?"]),
    "device name": (["fit", "good.xyz", "--device", "gpu"], ["--device", "'gpu'"]),
    "no cuda": (["fit", "good.xyz", "--device", "cuda"], ["--device cuda", "--device cpu"]),
    "no cuda, predict": (["predict", "model", "good.xyz", "--device", "cuda:7"], ["cuda:7"]),
    "no cuda, doctor": (["doctor", "--device", "cuda"], ["--device cuda", "no CUDA device"]),
    "grid": (["fit", "good.xyz", "--grid-level", "12"], ["--grid-level", "0 to 9", "'12'"]),
    "grid a word": (["label", "good.xyz", "--grid-level", "fine"], ["--grid-level", "'fine'"]),
    "threads": (["fit", "good.xyz", "--threads", "0"], ["--threads", "'0'"]),
    "seed": (["fit", "good.xyz", "--seed", "-1"], ["--seed", "'-1'"]),
    "spin": (["fit", "good.xyz", "--spin", "-1"], ["--spin", "'-1'"]),
    "charge": (["fit", "good.xyz", "--charge", "1.5"], ["--charge", "'1.5'"]),
    "steps": (["fit", "good.xyz", "--steps", "-5"], ["--steps", "'-5'"]),
    "epochs": (["fit", "good.xyz", "--epochs", "many"], ["--epochs", "'many'"]),
    "tolerance": (["fit", "good.xyz", "--tol", "0"], ["--tol", "'0'"]),
    "tolerance nan": (["fit", "good.xyz", "--tol", "nan"], ["--tol", "'nan'"]),
    "displace": (["fit", "good.xyz", "--samples", "2", "--displace", "9"], ["--displace", "'9'"]),
    "displace alone": (["fit", "good.xyz", "--displace", "0.1"], ["--displace", "--samples"]),
    "samples": (["fit", "good.xyz", "--samples", "-2"], ["--samples", "'-2'"]),
    "time": (["fit", "good.xyz", "--max-time", "soon"], ["--max-time", "'soon'", "10m"]),
    "no time": (["fit", "good.xyz", "--max-time", "0"], ["--max-time", "'0'"]),
    "cycles": (["label", "good.xyz", "--max-cycle", "0"], ["--max-cycle", "'0'"]),
    "conv-tol": (["label", "good.xyz", "--conv-tol", "-1e-9"], ["--conv-tol", "'-1e-9'"]),
    "refine": (["predict", "model", "good.xyz", "--refine", "-1"], ["--refine", "'-1'"]),
    "epochs and steps": (["fit", "good.xyz", "--epochs", "2", "--steps", "3"], ["exclude"]),
    "resume and overwrite": (["fit", "good.xyz", "--resume", "--overwrite"], ["exclude"]),
    "certificates": (
        ["predict", "model", "good.xyz", "--no-certificate", "--cheap-estimate"], ["exclude"],
    ),
    "loud and quiet": (["fit", "good.xyz", "-q", "--verbose", "-o", "r"], ["-v and -q exclude"]),
    "taken": (["fit", "good.xyz", "-o", "used"], ["used exists", "--resume or --overwrite"]),
    "taken file": (["label", "good.xyz", "-o", "used.h5"], ["used.h5 exists", "--overwrite"]),
    "not a run": (["fit", "good.xyz", "-o", "used", "--overwrite"], ["used", "only runs"]),
    "output a file": (["fit", "good.xyz", "-o", "used.h5"], ["used.h5", "this is a file"]),
    "output a folder": (["label", "good.xyz", "-o", "dir.h5"], ["dir.h5", "this is a folder"]),
    "output no h5": (["label", "good.xyz", "-o", "labels.txt"], ["labels.txt", ".h5"]),
    "below a file": (["fit", "good.xyz", "-o", "good.xyz/run"], ["good.xyz is a file"]),
    "output is input": (["label", "used.h5", "-o", "used.h5", "--overwrite"], ["is an input"]),
    "output is the run": (["fit", "good.xyz", "-o", "good.xyz"], ["is an input"]),
    "resume nothing": (["fit", "good.xyz", "-o", "fresh", "--resume"], ["--resume", "fresh"]),
    "resume foreign": (["fit", "good.xyz", "-o", "used", "--resume"], ["--resume", "used"]),
    "start from nothing": (["fit", "good.xyz", "--init", "no"], ["--init no", "does not exist"]),
    "inputs of another model": (
        ["fit", "good.xyz", "--init", "model", "--inputs", "geometry"], ["--inputs", "leave"]
    ),
    "unknown inputs": (["fit", "good.xyz", "--inputs", "guesses"], ["physics", "geometry"]),
    "start from text": (["fit", "good.xyz", "--init", "good.xyz"], ["--init good.xyz"]),
    "no model": (["predict", "no", "good.xyz"], ["no", "does not exist"]),
    "model a text file": (["predict", "good.xyz", "good.xyz"], ["good.xyz", "expected a model"]),
    "model an empty folder": (["predict", "dir.h5", "good.xyz"], ["dir.h5", "model.safetensors"]),
    "model cut off": (["predict", "cut", "good.xyz"], ["cut/model.safetensors", "truncated"]),
    "model json": (["predict", "garbage", "good.xyz"], ["garbage/model.json", "JSON"]),
    "model from the future": (["predict", "future", "good.xyz"], ["future", "newer", "99"]),
    "model without json": (["predict", "half", "good.xyz"], ["half", "model.json"]),
    "element not in model": (["predict", "model", "neon.xyz"], ["neon.xyz frame 0", "Ne", "O"]),
    "parity, predict": (["predict", "model", "radical.xyz"], ["radical.xyz frame 0", "--spin 1"]),
    "empty, predict": (["predict", "model", "empty.xyz"], ["empty.xyz"]),
    "unknown option": (["fit", "good.xyz", "--bassis", "x"], ["--bassis", "--basis?"]),
    "unknown option, doctor": (["doctor", "--jsn"], ["--jsn", "--json?"]),
    "unknown command": (["fti", "good.xyz"], ["'fti'", "fit?"]),
    "no command": ([], ["missing command"]),
    "no structures": (["fit"], ["STRUCTURES", "deeph-zero fit --help"]),
    "no model given": (["predict"], ["MODEL", "deeph-zero predict --help"]),
    "no value": (["fit", "good.xyz", "--basis"], ["--basis", "requires an argument"]),
    "surplus": (["doctor", "good.xyz"], ["good.xyz", "deeph-zero doctor --help"]),
    "value for a switch": (["fit", "good.xyz", "--skip-bad=yes"], ["--skip-bad", "value"]),
}  # fmt: skip


@pytest.fixture
def bad_folder(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "used").mkdir()
    (folder / "used" / "thesis.tex").write_text("years of work")
    (folder / "used.h5").write_bytes(b"old")
    (folder / "dir.h5").mkdir()
    model = folder / "model"
    weights, document = model / "model.safetensors", model / "model.json"
    changed = json.loads(document.read_text()) | {"format_version": 99}
    for name, tensors, text in (
        ("cut", weights.read_bytes()[:200], document.read_text()),
        ("garbage", weights.read_bytes(), "{not json"),
        ("future", weights.read_bytes(), json.dumps(changed)),
        ("half", weights.read_bytes(), None),
    ):
        (folder / name).mkdir()
        (folder / name / weights.name).write_bytes(tensors)
        if text is not None:
            (folder / name / document.name).write_text(text)
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_one_line_exit_two_nothing_left(bad_folder, run, engine, monkeypatch, case):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments, words = CASES[case]
    before = tree(bad_folder)
    result = run(*arguments)
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("error: ")
    for word in words:
        assert word in result.err
    assert "internal error" not in result.err
    assert result.code == 2
    assert result.out == ""
    assert tree(bad_folder) == before
    assert engine.calls == []


def test_there_are_enough_cases():
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", ["radical.xyz", "nan.xyz", "no.xyz", "middle.xyz"])
def test_skip_bad_needs_one_good_frame(bad_folder, run, engine, name):
    result = run("fit", name, "--skip-bad")
    if name == "middle.xyz":
        assert result.code == 0
        assert [m.frame for m in engine.calls[0]["molecules"]] == [0, 2]
        assert "1 bad frames left out" in result.err
        assert [f["frame"] for f in engine.calls[0]["failed"]] == [1]
    else:
        assert result.code == 2
        assert result.err.count("\n") == 1
        assert not (bad_folder / f"{Path(name).stem}_run").exists()


@pytest.mark.usefixtures("bad_folder")
def test_details_bring_the_traceback(run):
    assert run("fit", "nan.xyz", "-v").err.count("\n") == 1
    result = run("fit", "nan.xyz", "-vv")
    assert result.code == 2
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("error: nan.xyz frame 0")
