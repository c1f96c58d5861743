"""Cubes and checkpoints of labels, against PySCF's own objects."""

import numpy as np
import pytest
from ase.io.cube import read_cube_data
from pyscf import dft, gto, scf

from deeph_zero.cli.main import entry_point

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
    for name in ("b.cube", "b.chk"):
        assert entry_point(["convert", str(tmp_path / "a"), str(tmp_path / name)]) == 2
        assert "expected a molecule in a Gaussian basis, got a crystal" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
