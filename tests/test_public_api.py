"""The names of ``import deeph_zero``, how fast it is, and that the documented snippets run."""

import importlib
import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deeph_zero as dz

ROOT = Path(__file__).parents[1]
NAMES = {
    "ComputationError": "deeph_zero.errors",
    "CrystalModel": "deeph_zero.predict.crystal_model",
    "DeephZeroError": "deeph_zero.errors",
    "InputError": "deeph_zero.errors",
    "KohnSham": "deeph_zero.kohnsham",
    "KohnShamBatch": "deeph_zero.kohnsham.batch",
    "Model": "deeph_zero.model",
    "Molecule": "deeph_zero.molecule",
    "load": "deeph_zero.model",
    "read_structures": "deeph_zero.data.structures",
}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def python(*args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd, capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_the_one_of_its_module(name):
    own = {"load": "load_any"}.get(name, name)  # `load` of either kind of model
    assert getattr(dz, name) is getattr(importlib.import_module(NAMES[name]), own)


def test_the_list_of_names_is_complete():
    assert set(dz.__all__) == {*NAMES, "__version__", "ase"}
    assert dz.ase is importlib.import_module("deeph_zero.ase")
    assert set(dz.__all__) <= set(dir(dz))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nonsense", "; there are ComputationError, .*, read_structures$"),
        ("Lod", r"; did you mean load\?$"),
        ("Kohnsham", r"; did you mean KohnSham\?$"),
        ("read_structure", r"; did you mean read_structures\?$"),
        ("__wrapped__", "$"),
    ],
)
def test_a_name_there_is_not_brings_those_there_are(name, words):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'{words}"):
        getattr(dz, name)


def test_completion_offers_what_users_call():
    assert {name for name in dir(dz) if not name.startswith("__")} == {*NAMES, "ase"}


def test_help_begins_with_what_to_type():
    text = pydoc.plain(pydoc.render_doc(dz))[:1500]
    for words in (
        "dz.load(",
        "model.predict(mol)",
        "dz.read_structures(",
        "dz.KohnSham.from_pyscf",
    ):
        assert words in text


def test_the_import_and_the_version_are_light():
    code = (
        "import sys, deeph_zero as dz; dz.__version__; dz.InputError;"
        "print([m for m in ('torch', 'pyscf', 'ase', 'numpy') if m in sys.modules])"
    )
    done = python("-c", code)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def test_python_m_is_the_command():
    done = python("-m", "deeph_zero", "--version")
    assert (done.returncode, done.stdout) == (0, f"deeph-zero, version {dz.__version__}\n")
    done = python("-m", "deeph_zero", "fti")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean fit?" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_examples_run(script, tmp_path):
    done = python(str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_readme_runs(tmp_path):
    """Its Python block, on a run made as its first command makes it, only smaller."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    fit = ["fit", "examples/water.xyz", "-o", "water_run", "--grid-level", "1", "--tol", "1e-3"]
    assert python("-m", "deeph_zero", *fit, cwd=tmp_path).returncode == 0
    done = python("-c", block.group(1), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    energy, estimate = map(float, done.stdout.split()[:2])
    assert energy == pytest.approx(-76.27, abs=0.05)
    assert 0 <= estimate < 1e-3


CALLS = {
    "from_pyscf": lambda mol: dz.KohnSham.from_pyscf(mol, grid_lvel=0),
    "from_pyscf of a batch": lambda mol: dz.KohnShamBatch.from_pyscf([mol], grid_lvel=0),
    "scf": lambda mol: dz.KohnSham.from_pyscf(mol, grid_level=0).scf(max_cycles=3),
    "scf of a batch": lambda mol: dz.KohnShamBatch.from_pyscf([mol], grid_level=0).scf(
        max_cycles=3
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_keyword_is_named_with_those_there_are(name):
    from pyscf import gto

    mol = gto.M(atom="H 0 0 0; H 0 0.1 0.73", basis="sto-3g", verbose=0)
    wrong, right = {"f": ("grid_lvel", "grid_level"), "s": ("max_cycles", "max_cycle")}[name[0]]
    with pytest.raises(dz.InputError, match=f"unknown keyword {wrong}, expected one of") as error:
        CALLS[name](mol)
    assert str(error.value).endswith(f"; did you mean {right}?")
    assert ("nlc_grid_level" if name[0] == "f" else "conv_tol_grad") in str(error.value)
    assert "\n" not in str(error.value)
