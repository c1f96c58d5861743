"""Label files: read back what `label` wrote, matched by structure, refused when they do not fit."""

import dataclasses

import h5py
import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.data.labels import LabelStore, label_for
from deeph_zero.errors import InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.jobs.label import run_label
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import LabelConfig, MethodConfig

METHOD = {"basis": "sto-3g", "grid_level": 0}


def water(shift=0.0, frame=0):
    coords = np.array([[0, 0, 0.2], [0, 1.43 + shift, 1.1], [0.1, -1.4, 1.15]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz", frame=frame)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Three waters, the middle one a cation with one unpaired electron."""
    molecules = [water(), dataclasses.replace(water(0.1, 1), charge=1, spin=1), water(0.2, 2)]
    config = LabelConfig.parse({"method": METHOD, "runtime": {"device": "cpu", "threads": 1}})
    path = tmp_path_factory.mktemp("labels") / "labels.h5"
    summary = run_label(config, molecules, [], path, reporter=SilentReporter(), command="label")
    assert summary["converged"]
    return path, molecules


def resolved(path):
    with h5py.File(path) as handle:
        return handle["0000"].attrs["auxbasis"]


def test_values_are_pyscfs(labels):
    path, molecules = labels
    store = LabelStore([path])
    assert len(store) == 3
    for index, molecule in enumerate(molecules):
        mol = gto.M(
            atom=list(zip(molecule.numbers.tolist(), molecule.coords.tolist(), strict=True)),
            unit="bohr", basis="sto-3g", charge=molecule.charge, spin=molecule.spin, verbose=0,
        )  # fmt: skip
        mf = (dft.UKS if molecule.spin else dft.RKS)(mol, xc="pbe").density_fit()
        mf.grids.level = 0
        mf.conv_tol = 1e-11
        energy = mf.kernel()
        label = store.read(index)
        assert label.energy == pytest.approx(energy, abs=1e-8)
        assert label.fock.shape == ((2, 7, 7) if molecule.spin else (7, 7))
        np.testing.assert_allclose(label.fock, mf.get_fock(), atol=2e-5)
        np.testing.assert_allclose(label.dm, mf.make_rdm1(), atol=2e-5)
        np.testing.assert_allclose(label.mo_energy, mf.mo_energy, atol=2e-5)
        assert torch.equal(label.mo_occ, torch.as_tensor(np.array(mf.mo_occ), dtype=torch.float64))


def test_found_by_structure_in_any_order(labels):
    path, molecules = labels
    store = LabelStore([path])
    assert [store.index(m) for m in reversed(molecules)] == [2, 1, 0]
    moved = dataclasses.replace(molecules[0], coords=molecules[0].coords + 5e-7)
    assert store.index(moved) == 0
    other = dataclasses.replace(molecules[0], coords=molecules[0].coords + 5e-6)
    assert store.index(other) is None
    assert store.index(dataclasses.replace(molecules[1], charge=0, spin=0)) is None
    assert store.index(dataclasses.replace(molecules[0], numbers=np.array([1, 8, 1]))) is None
    assert store.index(Molecule(numbers=np.array([2]), coords=np.zeros((1, 3)))) is None
    back = store.molecules[1]
    assert (back.file, back.frame, back.charge, back.spin) == (str(path), 1, 1, 1)
    assert np.array_equal(back.coords, molecules[1].coords)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"basis": "def2-svp"}, "basis 'sto-3g' where 'def2-svp' is wanted"),
        ({"xc": "pbe0"}, "xc 'pbe' where 'pbe0' is wanted"),
        ({"grid_level": 3}, "grid level 0 where 3 is wanted"),
        ({"density_fit": False}, "where None is wanted"),
        ({"xc": "PBE,PBE"}, None),
        ({"basis": "STO3G"}, None),
    ],
)
def test_another_method_is_refused(labels, changes, words):
    path, molecules = labels
    store = LabelStore([path])
    method = MethodConfig.parse(METHOD | changes).as_method().fitted_with(resolved(path))
    if words is None:
        assert label_for(store, molecules[0], method, (7, 7)) is not None
        return
    with pytest.raises(InputError) as info:
        label_for(store, molecules[0], method, (7, 7))
    assert words in str(info.value)
    assert "labels.h5 frame 0" in str(info.value)
    assert len(str(info.value).splitlines()) == 1


def test_smeared_labels_are_of_another_method(labels, tmp_path):
    path, molecules = labels
    smeared = tmp_path / "smeared.h5"
    smeared.write_bytes(path.read_bytes())
    with h5py.File(smeared, "r+") as handle:
        handle["0000"].attrs["smearing"] = 0.01
    wanted = Method(**METHOD).fitted_with(resolved(path))
    with pytest.raises(InputError, match=r"frame 0: .* smearing 0\.01 where 0\.0 is wanted"):
        label_for(LabelStore([smeared]), molecules[0], wanted)
    assert label_for(LabelStore([smeared]), molecules[2], wanted) is not None


def test_another_spin_treatment_is_refused(labels):
    path, molecules = labels
    store, method = LabelStore([path]), Method(**METHOD).fitted_with(resolved(path))
    with pytest.raises(InputError, match=r"shape \(2, 7, 7\), got \(7, 7\); label with the same"):
        label_for(store, molecules[0], method, (2, 7, 7))
    assert label_for(store, water(0.3), method, (7, 7)) is None


def damaged(path, tmp_path, change):
    copy = tmp_path / "bad.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as handle:
        change(handle["0000"])
    return copy


def drop(group):
    del group["fock"]


def spoil(group):
    group["fock"][0, 0] = np.nan


def unfinished(group):
    group.attrs["converged"] = False


def unrefined(group):
    group.attrs["refined"] = False


def reshape(group):
    del group["density"]
    group["density"] = np.zeros((3, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, "expected a label with fock, it has none"),
        (spoil, "NaN or infinity in fock"),
        (unfinished, "its SCF did not converge"),
        (unrefined, "got a prediction that was not refined; predict it again with refine=1e-05"),
        (reshape, r"of one shape, got \(7, 7\) and \(3, 3\)"),
    ],
)
def test_damaged_labels_are_refused(labels, tmp_path, change, words):
    path, molecules = labels
    copy = damaged(path, tmp_path, change)
    method = Method(**METHOD).fitted_with(resolved(path))

    def use():
        return label_for(LabelStore([copy]), molecules[0], method, (7, 7))

    with pytest.raises(InputError, match=words):
        use()


def test_files_that_hold_no_labels(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    with pytest.raises(InputError, match="cannot read it"):
        LabelStore([text])
    with pytest.raises(InputError, match="there is none"):
        LabelStore([tmp_path / "missing.h5"])
    empty = tmp_path / "empty.h5"
    h5py.File(empty, "w").close()
    with pytest.raises(InputError, match="holds no structure"):
        LabelStore([empty])


def test_more_than_ten_thousand_labels_keep_their_order(labels, tmp_path):
    path, molecules = labels
    many = tmp_path / "many.h5"
    with h5py.File(path) as source, h5py.File(many, "w") as target:
        for k, name in enumerate(("9998", "9999", "10000")):
            source.copy(f"{k:04d}", target, name)
    store = LabelStore([many])
    for k, molecule in enumerate(molecules):
        np.testing.assert_array_equal(store.molecules[k].coords, molecule.coords)
        assert store.where(k).endswith(f"frame {k}")
        assert store.index(molecule) == k


def test_a_label_is_found_to_the_last_bit_of_the_tolerance(labels):
    path, molecules = labels
    store = LabelStore([path])
    moved = molecules[2].coords.copy()
    moved[2, 1] += 0.9e-6
    assert store.index(dataclasses.replace(molecules[2], coords=moved)) == 2
    moved[0, 0] -= 1.1e-6
    assert store.index(dataclasses.replace(molecules[2], coords=moved)) is None
    assert store.index(dataclasses.replace(molecules[2], charge=1, spin=1)) is None
