"""Cubes and checkpoints of labels, against PySCF's own objects."""

import dataclasses

import h5py
import numpy as np
import pytest
from ase.io.cube import read_cube_data
from pyscf import dft, gto, scf
from pyscf.pbc import gto as pbc_gto
from pyscf.pbc.dft import numint
from scipy.linalg import eigh

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.protocol import Record, Structure, from_dense
from deeph_zero.data.formats.pyscf_files import CheckpointSink, CubeSink
from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import shell_ls

COMMON = ["--basis", "sto-3g", "--grid-level", "0", "--threads", "1", "--device", "cpu", "-q"]


@pytest.fixture(scope="module", params=["H 0 0 0\nH 0 0.1 0.73", "O 0 0 0\nH 0.1 0.2 0.94"])
def labels(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    spin = request.param.startswith("O")
    (folder / "a.xyz").write_text(f"2\nspin={int(spin)}\n{request.param}\n")
    words = ["label", str(folder / "a.xyz"), "-o", str(folder / "a.h5"), *COMMON]
    assert entry_point(words) == 0
    return folder, gto.M(atom=request.param, basis="sto-3g", spin=int(spin), verbose=0)


def test_a_checkpoint_starts_pyscf(labels):
    folder, mol = labels
    out = folder / "a.chk"
    assert entry_point(["convert", str(folder / "a.h5"), str(out), "--overwrite", "-q"]) == 0
    loaded, data = scf.chkfile.load_scf(str(out))
    np.testing.assert_allclose(loaded.atom_coords(), mol.atom_coords(), atol=1e-10)
    mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc="pbe").density_fit()
    mf.grids.level = 0
    mf.max_cycle = 0
    mf.kernel(dm0=mf.from_chk(str(out)))
    assert mf.e_tot == pytest.approx(data["e_tot"], abs=1e-7)


def test_a_cube_holds_the_density(labels):
    folder, mol = labels
    out = folder / "a.cube"
    assert entry_point(["convert", str(folder / "a.h5"), str(out), "--overwrite", "-q"]) == 0
    values, atoms = read_cube_data(str(out))
    volume = atoms.get_volume() / 0.52917721092**3 / values.size
    # the core of oxygen is sharper than the cube's points
    total = values.sum() * volume
    assert total == pytest.approx(mol.nelectron, rel=0.02)


def test_other_functions_cannot_be_evaluated(tmp_path, crystal, capsys):
    from deeph_zero.data.formats.deeph import DeepHSink

    (tmp_path / "a").mkdir()
    DeepHSink(tmp_path / "a", 1).write(crystal)
    for name, words in (
        ("b.cube", "expected the density of a crystal at its k-points"),
        ("b.chk", "expected a molecule in a Gaussian basis, got a crystal"),
    ):
        assert entry_point(["convert", str(tmp_path / "a"), str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / name).exists()


CRYSTAL = """3
Lattice="2.6 0.1 0.0 0.2 2.4 0.0 0.0 0.3 {c}" pbc="T T {pbc}" spin={spin}
H 0.1 0.2 0.3
H 0.2 0.1 1.05
He 1.3 1.2 2.0
"""


@pytest.mark.parametrize(
    ("c", "pbc", "spin", "more"),
    [("2.9", "T", 0, ["--kmesh", "2", "1", "3"]), ("12.0", "F", 2, ["--kmesh", "1", "2", "1"])],
)
def test_a_cube_of_a_crystal_is_its_density_on_its_mesh(tmp_path, c, pbc, spin, more):
    (tmp_path / "a.xyz").write_text(CRYSTAL.format(c=c, pbc=pbc, spin=spin))
    out, labels = tmp_path / "a.cube", tmp_path / "a.h5"
    words = ["label", str(tmp_path / "a.xyz"), "-o", str(labels), "--xc", "lda,vwn", *more]
    words += ["--basis", "gth-szv", "--pseudo", "gth-pade", "--ke-cutoff", "25", "-q"]
    assert entry_point([*words, "--threads", "1", "--device", "cpu"]) == 0
    assert entry_point(["convert", str(labels), str(out), "-q"]) == 0
    values, atoms = read_cube_data(str(out))
    with h5py.File(labels) as file:
        group = file["0000"]
        kpts, weights, dm = (group[n][:] for n in ("kpts", "kweights", "density"))
        mesh, lattice, places = group.attrs["fft_mesh"], group["lattice"][:], group["positions"][:]
    assert values.shape == tuple(mesh)
    np.testing.assert_allclose(atoms.cell / 0.52917721092, lattice, atol=1e-6)
    cell = pbc_gto.M(
        atom=list(zip(["H", "H", "He"], places, strict=True)), unit="B", a=lattice, verbose=0,
        basis="gth-szv", pseudo="gth-pade", mesh=mesh, spin=spin,
    )  # fmt: skip
    # all three directions repeat here; a layer's images are out of reach
    points = cell.get_uniform_grids(mesh, wrap_around=False)
    ao = numint.eval_ao_kpts(cell, points, cell.get_abs_kpts(kpts))
    total = dm if dm.ndim == 3 else dm.sum(0)
    expected = sum(
        w * np.einsum("gi,ij,gj->g", a, d, a.conj()).real
        for w, a, d in zip(weights, ao, total, strict=True)
    )
    # five decimals of up to 2 electrons per cubic bohr
    np.testing.assert_allclose(values.ravel(), expected, atol=1e-5)
    # every second point of twice as many along one vector
    words = ["--mesh", *(str(n * m) for n, m in zip(mesh, (2, 1, 1), strict=True))]
    assert entry_point(["convert", str(labels), str(out), *words, "--overwrite", "-q"]) == 0
    finer, _ = read_cube_data(str(out))
    np.testing.assert_allclose(finer[::2], values, atol=1e-5)


# ---- records without a calculation -------------------------------------------------------------


def record_of(atom, *, spin=0, **changes):
    """H of the nuclei alone in STO-3G, of one spin or two unlike ones."""
    mol = gto.M(atom=atom, basis="sto-3g", spin=spin, verbose=0)
    core = mol.intor("int1e_kin") + mol.intor("int1e_nuc")
    fock = np.stack([core, 0.9 * core]) if spin else core
    facts = {"basis": "sto-3g", "energy": -1.25}
    matrices = from_dense(shell_ls(mol), fock, mol.intor("int1e_ovlp"), facts=facts)
    structure = Structure(
        numbers=mol.atom_charges().astype(int), coords=mol.atom_coords(), spin=spin
    )
    return mol, core, Record(structure, dataclasses.replace(matrices, **changes))


@pytest.mark.parametrize(
    ("atom", "spin"), [("H 0 0 0; H 0 0.1 0.73", 0), ("O 0 0 0; H .1 .2 .94", 1)]
)
def test_a_checkpoint_has_the_orbitals_of_h(tmp_path, atom, spin):
    mol, core, record = record_of(atom, spin=spin)
    CheckpointSink(tmp_path / "a.chk").write(record)
    loaded, data = scf.chkfile.load_scf(str(tmp_path / "a.chk"))
    assert data["e_tot"] == -1.25
    np.testing.assert_allclose(loaded.atom_coords(), mol.atom_coords(), atol=1e-12)
    levels = eigh(core, mol.intor("int1e_ovlp"), eigvals_only=True)
    wanted = (
        [levels, eigh(0.9 * core, mol.intor("int1e_ovlp"), eigvals_only=True)] if spin else levels
    )
    np.testing.assert_allclose(data["mo_energy"], wanted, atol=1e-10)
    assert np.sum(data["mo_occ"]) == mol.nelectron
    if spin:
        assert [int(x.sum()) for x in data["mo_occ"]] == list(mol.nelec)


def test_a_cube_has_the_density_at_its_points(tmp_path):
    mol, core, record = record_of("H 0 0 0; H 0 0.1 0.73")
    CubeSink(tmp_path / "a.cube").write(record)
    values, atoms = read_cube_data(str(tmp_path / "a.cube"))
    _, c = eigh(core, mol.intor("int1e_ovlp"))
    dm = 2 * np.outer(c[:, 0], c[:, 0])
    with (tmp_path / "a.cube").open() as file:
        lines = file.read().split("\n")[2:6]
    origin = np.array(lines[0].split()[1:4], dtype=float)
    steps = np.array([line.split()[1:] for line in lines[1:]], dtype=float)
    rng = np.random.default_rng(0)
    places = rng.integers(0, values.shape, (40, 3))
    ao = mol.eval_gto("GTOval_sph", origin + places @ steps)
    wanted = np.einsum("gi,ij,gj->g", ao, dm, ao)
    np.testing.assert_allclose(values[tuple(places.T)], wanted, atol=2e-5)
    assert len(atoms) == 2
    # a density of its own comes before that of H
    mine = dataclasses.replace(
        record.matrices,
        density=record.matrices.overlap.with_values(3 * record.matrices.overlap.values),
    )
    CubeSink(tmp_path / "b.cube").write(Record(record.structure, mine))
    other, _ = read_cube_data(str(tmp_path / "b.cube"))
    wanted = 3 * np.einsum("gi,ij,gj->g", ao, mol.intor("int1e_ovlp"), ao)
    np.testing.assert_allclose(other[tuple(places.T)], wanted, atol=2e-5)


@pytest.mark.parametrize("sink", [CubeSink, CheckpointSink])
def test_functions_that_are_not_known(tmp_path, molecule, sink):
    for facts, words in (
        ({}, "expected a molecule in a Gaussian basis, got basis 'numerical'"),
        ({"basis": "sto-3g"}, "expected the shells of sto-3g, got others; give the right basis"),
    ):
        record = Record(
            dataclasses.replace(molecule.structure, spin=1),
            dataclasses.replace(molecule.matrices, facts=facts),
        )
        with pytest.raises(InputError, match=words):
            sink(tmp_path / "a").write(record)
    assert not (tmp_path / "a").exists()
