"""What is shipped: the wheel's contents, one version everywhere, basis data, example molecules."""

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from pyscf import dft, gto

import deeph_zero

ROOT = Path(__file__).parents[1]
INDEX = tomllib.loads((ROOT / "basis/index.toml").read_text())
BASES = [name for name, entry in INDEX.items() if entry["format"] == "nwchem"]
ATOMS = tomllib.loads((ROOT / "basis/atoms.toml").read_text())
EXAMPLES = sorted(ROOT.glob("examples/*.xyz"))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "THIRD_PARTY_LICENSES"):
        shutil.copy(ROOT / name, source)
    for name in ("deeph_zero", "basis"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    return source


@pytest.fixture(scope="session")
def wheel(source: Path) -> zipfile.Path:
    """The wheel, built without network and without isolation."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", "out", "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = (source / "out").glob("*.whl")
    return zipfile.Path(path)


def wheel_names(wheel: zipfile.Path) -> set[str]:
    return {name for name in wheel.root.namelist() if not name.endswith("/")}


def test_wheel_holds_every_module(wheel: zipfile.Path, source: Path):
    modules = {str(p.relative_to(source)) for p in (source / "deeph_zero").rglob("*.py")}
    assert modules <= wheel_names(wheel)
    assert {"deeph_zero/ks/xc/__init__.py", "deeph_zero/py.typed"} <= wheel_names(wheel)


def test_wheel_holds_basis_data_and_nothing_importable_called_basis(
    wheel: zipfile.Path, source: Path
):
    shipped = {f"deeph_zero/basis/{p.name}" for p in (source / "basis").iterdir() if p.is_file()}
    assert shipped <= wheel_names(wheel)
    top = {name.split("/")[0] for name in wheel_names(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"deeph_zero"}


def test_wheel_holds_the_templates_and_the_viewer_of_reports(wheel: zipfile.Path, source: Path):
    report = source / "deeph_zero/report"
    parts = [p for name in ("templates", "vendor") for p in (report / name).iterdir()]
    assert len(parts) >= 5
    assert {str(p.relative_to(source)) for p in parts} <= wheel_names(wheel)


def test_wheel_holds_the_models_and_their_checksums(wheel: zipfile.Path, source: Path):
    shipped = source / "deeph_zero/model_files/shipped"
    parts = {str(p.relative_to(source)) for p in shipped.rglob("*") if p.is_file()}
    assert "deeph_zero/model_files/shipped/index.json" in parts
    assert parts <= wheel_names(wheel)


def test_vendored_viewer_is_the_published_one():
    """3Dmol.js 2.5.5 as published; a changed file is a new version, with its licences."""
    data = (ROOT / "deeph_zero/report/vendor/3Dmol-min.js").read_bytes()
    known = "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"
    assert hashlib.sha256(data).hexdigest() == known
    assert b"</script" not in data
    licences = (ROOT / "deeph_zero/report/vendor/LICENSE-3Dmol.txt").read_text()
    for name in ("University of Pittsburgh", "GLmol", "Three.js", "jQuery", "pako", "UPNG.js"):
        assert name in licences


def test_wheel_holds_licences_and_the_command(wheel: zipfile.Path):
    (info,) = {n.split("/")[0] for n in wheel_names(wheel) if ".dist-info/" in n}
    assert {f"{info}/licenses/{n}" for n in ("LICENSE", "THIRD_PARTY_LICENSES")} <= wheel_names(
        wheel
    )
    entry_points = wheel.joinpath(info, "entry_points.txt").read_text()
    assert "deeph-zero = deeph_zero.__main__:main" in entry_points


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    headings = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation is not None
    assert headings, "headings of CHANGELOG.md name versions, the newest first"
    assert [deeph_zero.__version__, citation[1], headings[0]] == [version] * 3


def test_constraints_resolve_anywhere():
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line) for line in lines), (
        "only NAME==VERSION: no local suffix, no file, no editable line"
    )
    assert not [line for line in lines if line.startswith(("nvidia", "deeph"))]
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[<>=\[]", w)[0].lower() for w in wanted} <= pinned


def test_index_lists_every_data_file_with_its_checksum():
    listed = {entry["file"]: entry["sha256"] for entry in INDEX.values()}
    data = [
        p
        for p in (ROOT / "basis").iterdir()
        if p.is_file() and p.name not in {"__init__.py", "README.md", "index.toml"}
    ]
    assert listed == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in data}
    for entry in INDEX.values():
        assert {"role", "format", "elements", "source", "license"} <= entry.keys()


def read_shells(path: Path) -> dict[str, list[tuple[int, np.ndarray]]]:
    """The format of basis/README.md: per element (l, [primitive, exponent + coefficients])."""
    shells: dict[str, list[tuple[int, list[list[float]]]]] = {}
    rows: list[list[float]] = []
    for raw in path.read_text().splitlines():
        words = raw.split("#")[0].split()
        if words[:1] == ["END"]:
            break  # effective core potentials follow
        if len(words) == 2 and words[1] in "SPDFGHI":
            rows = []
            shells.setdefault(words[0], []).append(("SPDFGHI".index(words[1]), rows))
        elif words and words[0] != "BASIS":
            rows.append([float(w.replace("D", "e")) for w in words])
    return {s: [(angular, np.array(r)) for angular, r in v] for s, v in shells.items()}


@pytest.mark.parametrize("name", BASES)
def test_shipped_basis_equals_pyscf(name: str):
    shells = read_shells(ROOT / "basis" / INDEX[name]["file"])
    assert len(shells) == INDEX[name]["elements"]
    for symbol, ours in shells.items():
        theirs = [(s[0], np.array(s[1:])) for s in gto.basis.load(name, symbol, optimize=False)]
        # PySCF sorts shells by l; the file has its own order
        by_l = sorted(ours, key=lambda shell: shell[0])
        assert [angular for angular, _ in by_l] == [angular for angular, _ in theirs], symbol
        for (_, mine), (_, pyscf) in zip(by_l, theirs, strict=True):
            np.testing.assert_array_equal(mine, pyscf, err_msg=symbol)


def test_shipped_core_potentials_equal_pyscf():
    text = (ROOT / "basis/def2-svp.dat").read_text().split("\nECP\n")[1]
    cores = dict(re.findall(r"^([A-Z][a-z]?) nelec (\d+)", text, re.MULTILINE))
    assert len(cores) == 36
    for symbol, count in cores.items():
        pyscf = gto.basis.load_ecp("def2-svp", symbol)
        assert pyscf[0] == int(count)
        assert gto.basis.parse_ecp(text, symbol) == pyscf


def test_atoms_follow_the_periodic_table():
    atoms = {symbol: row for symbol, row in ATOMS.items() if symbol != "method"}
    assert [row["number"] for row in atoms.values()] == list(range(1, 87))
    for symbol, row in atoms.items():
        assert gto.charge(symbol) == row["number"]
        assert (row["number"] - row["spin"]) % 2 == 0, symbol
    # Hund's rule for one atom per kind of open shell
    known = {"H": 1, "C": 2, "N": 3, "O": 2, "Ne": 0, "Cr": 6, "Mn": 5, "Cu": 1, "Gd": 8, "Bi": 3}
    assert {symbol: atoms[symbol]["spin"] for symbol in known} == known


@pytest.mark.reference
@pytest.mark.parametrize("symbol", ["H", "C", "N", "O"])
def test_atom_energies_equal_pyscf(symbol: str):
    mol = gto.M(atom=symbol, basis="def2-svp", spin=ATOMS[symbol]["spin"], verbose=0)
    mf = dft.UKS(mol, xc="pbe")
    mf.grids.level = ATOMS["method"]["grid_level"]
    # five decimals are stored (half a unit: 5e-6), and the direction in which an open p shell
    # points moves the energy by 1.5e-6 on this grid: oxygen, measured over random directions
    assert mf.kernel() == pytest.approx(ATOMS[symbol]["energy"], abs=7e-6)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_molecule_is_sound(path: Path):
    frames = ase.io.read(path, ":")
    assert len(frames) == (20 if path.stem == "water_frames" else 1)
    for atoms in frames:
        assert (atoms.numbers.sum() - atoms.info["charge"] - atoms.info["spin"]) % 2 == 0
        distances = atoms.get_all_distances()[np.triu_indices(len(atoms), k=1)]
        assert distances.min() > 0.8, "angstrom; no bond is that short"
        moments = np.linalg.svd(atoms.positions - atoms.positions.mean(0), compute_uv=False)
        assert len(atoms) == 2 or moments[1] > 0.1, "not linear"


def test_examples_come_from_their_script(tmp_path: Path):
    script = ROOT / "benchmarks/make_structures.py"
    subprocess.run([sys.executable, str(script), "-o", str(tmp_path)], check=True)
    made = {p.name: p.read_text() for p in tmp_path.glob("*.xyz")}
    assert made == {p.name: p.read_text() for p in EXAMPLES}
