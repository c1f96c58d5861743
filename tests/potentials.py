"""Potentials of PySCF runs, and files of radial functions, written by the tests."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import gamma

if TYPE_CHECKING:
    from pyscf.pbc import gto

CELLS = [
    ("diamond", "C 0 .05 0; C .9 .85 .93", [[0, 1.78, 1.78], [1.78, 0, 1.78], [1.78, 1.78, 0.1]],
     [16, 15, 17], 0),
    ("molecule", "H 2.0 2.1 1.7; H 2.1 2.0 2.46", [[4.2, 0, 0], [0.1, 4.0, 0], [0, 0, 4.4]],
     [18, 17, 19], 0),
    ("triplet", "H .3 .2 .1; H 1.6 1.3 1.2", [[3.4, 0, 0], [0.2, 3.1, 0], [0, 0.1, 3.3]],
     [15, 15, 14], 2),
]  # fmt: skip
"""Name, atoms and lattice (angstrom), mesh, unpaired electrons."""

HEADER = (
    'element="{element}" pseudo_type="{kind}" is_ultrasoft="{us}" is_paw="{paw}" has_so="{so}" '
    'z_valence="{valence}" number_of_proj="{count}"'
)


def gth_projector(l: int, i: int, radius: float, r: np.ndarray) -> np.ndarray:
    """p_i^l of Hartwigsen, Goedecker, Hutter, Phys. Rev. B 58, 3641 (1998), eq. 3; i from 1."""
    power = l + (4 * i - 1) / 2
    scale = np.sqrt(2) / (radius**power * np.sqrt(gamma(power)))
    return scale * r ** (l + 2 * (i - 1)) * np.exp(-0.5 * (r / radius) ** 2)


def upf_text(
    betas: Sequence[tuple[int, np.ndarray]],
    strengths: np.ndarray,
    r: np.ndarray,
    spacing: np.ndarray,
    **header: object,
) -> str:
    """A pseudopotential of UPF 2: β times r, D in rydberg."""
    words = {"element": "C", "kind": "NC", "us": "F", "paw": "F", "so": "F", "valence": 4}
    given = words | {"count": len(betas)} | header
    spins = given.pop("spins", None)
    lines = ['<UPF version="2.0.1">', "<PP_INFO> a < b & c </PP_INFO>"]
    lines += [f"<PP_HEADER {HEADER.format(**given)}/>", "<PP_MESH>"]
    lines += [f"<PP_R>{_numbers(r)}</PP_R>", f"<PP_RAB>{_numbers(spacing)}</PP_RAB>", "</PP_MESH>"]
    lines.append("<PP_NONLOCAL>")
    for k, (l, values) in enumerate(betas, 1):
        lines.append(f'<PP_BETA.{k} angular_momentum="{l}">{_numbers(values)}</PP_BETA.{k}>')
    lines += [f"<PP_DIJ>{_numbers(strengths.ravel())}</PP_DIJ>", "</PP_NONLOCAL>"]
    if spins is not None:
        lines.append("<PP_SPIN_ORB>")
        lines += [f'<PP_RELBETA.{k} jjj="{j}"/>' for k, j in enumerate(spins, 1)]
        lines.append("</PP_SPIN_ORB>")
    return "\n".join([*lines, "</UPF>", ""])


def ion_text(
    symbol: str, number: int, valence: int, orbitals: Sequence[tuple[int, np.ndarray]], end: float
) -> str:
    """SIESTA's .ion: R(r)/r^l on points from 0 to ``end``."""
    lines = ["<preamble>", "x", "</preamble>", symbol, symbol, f"{number}", f"{valence}.0"]
    lines += ["1.0", "0.0", f"1 {len(orbitals)}", "0 0", "# PAOs:____"]
    for l, values in orbitals:
        delta = end / (len(values) - 1)
        lines += [f" {l} 2 1 0 1.0  #orbital", f" {len(values)} {delta:.16e} {end:.16e}"]
        lines += [f" {k * delta:.16e} {v:.16e}" for k, v in enumerate(values)]
    return "\n".join([*lines, "# KBs:____", ""])


def _numbers(values: np.ndarray) -> str:
    return "\n".join(f"{x:.15E}" for x in values)


def gth_upf(cell: "gto.Cell") -> str:
    """GTH's carbon of a cell as a UPF file."""
    parameters = cell._pseudo["C"]
    r = np.linspace(0, 7, 1401)
    betas, blocks = [], []
    for l, (radius, n, h) in enumerate(parameters[5:]):
        if n:
            betas += [(l, r * gth_projector(l, i, radius, r)) for i in range(1, n + 1)]
            blocks.append(2 * np.array(h, dtype=float))
    size = sum(len(b) for b in blocks)
    strengths = np.zeros((size, size))
    at = 0
    for block in blocks:
        strengths[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    spacing = np.full(len(r), r[1])
    return upf_text(betas, strengths, r, spacing)


@pytest.fixture
def radial_files(tmp_path: Path) -> SimpleNamespace:
    """Writers of the formats that are read, and a folder."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return SimpleNamespace(
        write=write, upf=upf_text, ion=ion_text, gth=gth_projector, gth_upf=gth_upf, folder=tmp_path
    )


def _run(cell: "gto.Cell", kmesh: tuple[int, int, int], *, two: bool) -> SimpleNamespace:
    """One cycle of LDA, its matrices and levels, and its potential on the grid."""
    from pyscf.pbc import dft, tools  # half a second that most tests do without
    from pyscf.pbc.dft import numint
    from pyscf.pbc.gto import pseudo

    kpts = cell.make_kpts(kmesh)
    mf = (dft.KUKS if two else dft.KRKS)(cell, kpts, xc="lda,vwn")
    mf.max_cycle = 1  # a potential belongs to any density
    mf.kernel()
    mf.mo_energy = mf.eig(mf.get_fock(), mf.get_ovlp())[0]
    dm = np.asarray(mf.make_rdm1())
    dm = dm if two else dm[None]
    values = np.asarray(numint.KNumInt(kpts).eval_ao(cell, cell.get_uniform_grids(cell.mesh), kpts))
    rho = np.einsum("kgi,skij,kgj->sg", values, dm, values.conj()).real / len(kpts)
    given = rho if two else rho[0]
    v = numint.KNumInt().eval_xc("lda,vwn", given, spin=int(two))[1][0].reshape(-1, len(dm)).T
    wave = tools.fft(rho.sum(0), cell.mesh) * tools.get_coulG(cell, mesh=cell.mesh)
    cores = -np.einsum("ag,ag->g", cell.get_SI(), pseudo.get_vlocG(cell))
    scale = np.prod(cell.mesh) / cell.vol
    total = v + tools.ifft(wave, cell.mesh).real + tools.ifft(cores, cell.mesh).real * scale
    return SimpleNamespace(mf=mf, values=total.reshape(-1, *cell.mesh))


@pytest.fixture(scope="session")
def potential_cells() -> "dict[str, gto.Cell]":
    """Cells without symmetry, with coarse meshes."""
    from pyscf.pbc import gto

    made = {}
    for name, atoms, lattice, mesh, spin in CELLS:
        cell = gto.Cell()
        cell.atom, cell.a, cell.mesh, cell.spin, cell.verbose = atoms, lattice, mesh, spin, 0
        cell.basis, cell.pseudo, cell.precision = "gth-szv", "gth-pade", 1e-8
        made[name] = cell.build()
    return made


@pytest.fixture(scope="session")
def potential_run() -> Callable[..., SimpleNamespace]:
    """Runs that are made once; see :func:`_run`."""
    return functools.cache(_run)


@pytest.fixture
def cell_with_p_projectors() -> "gto.Cell":
    """Carbon with a made-up pseudopotential that has s and p channels, two of s."""
    from pyscf.pbc import gto

    cell = gto.Cell()
    cell.atom, cell.a = "C 0 .05 0; C .9 .85 .93", [[0, 3.6, 3.4], [3.3, 0, 3.4], [3.5, 3.6, 0.1]]
    cell.basis, cell.mesh, cell.verbose = "gth-dzvp", [39, 41, 40], 0
    h_s, h_p = [[9.5, -1.2], [-1.2, 0.7]], [[-2.1]]
    cell.pseudo = {"C": [[2, 2], 0.34, 1, [-8.5], 2, [0.45, 2, h_s], [0.5, 1, h_p]]}
    return cell.build()
