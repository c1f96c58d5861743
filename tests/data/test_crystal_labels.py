"""Labels of crystals: matched by structure, read back, filled from blocks, or refused."""

import dataclasses

import h5py
import numpy as np
import pytest
import torch
from pyscf.pbc import gto
from scipy.linalg import eigh

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.crystal_labels import CrystalLabels
from deeph_zero.errors import InputError
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule

LATTICE = np.array([[3.6, 0, 0], [0, 4.2, 0], [0, 0.1, 4.0]])
COORDS = np.array([[0, 0, 0.1], [1.5, 0.1, 0]])
METHOD = Method(xc="pbe", basis="gth-szv", crystal=CrystalMethod(kmesh=(2, 1, 1), pseudo="gth-pbe"))
FACTS = {
    "charge": 0, "spin": 0, "basis": "gth-szv", "xc": "pbe", "pseudo": "gth-pbe", "smearing": 0.0,
    "kmesh": [2, 1, 1], "energy": -1.5, "free_energy": -1.6, "converged": True,
}  # fmt: skip
CHAIN = Molecule(
    numbers=np.array([1, 1]), coords=COORDS, lattice=LATTICE, pbc=(True,) * 3, file="c.xyz", frame=0
)


def arrays(nspin=1):
    """Hermitian matrices at two k-points, a spin axis only where there are two."""
    rng = np.random.default_rng(0)
    h = rng.normal(size=(nspin, 2, 2, 2)) + 1j * rng.normal(size=(nspin, 2, 2, 2))
    h = h + h.conj().swapaxes(-1, -2)
    given = {"fock": h, "density": 0.5 * h, "mo_energy": np.zeros((nspin, 2, 2)),
             "mo_occ": np.ones((nspin, 2, 2))}  # fmt: skip
    given = {name: x if nspin == 2 else x[0] for name, x in given.items()}
    return given | {"kpts": np.array([[0, 0, 0], [0.5, 0, 0]])}


def write(path, name="0000", facts=None, **changes):
    given = {"numbers": CHAIN.numbers, "positions": COORDS, "lattice": LATTICE, "pbc": [True] * 3}
    given |= arrays() | changes
    with h5py.File(path, "a") as file:
        group = file.create_group(name)
        for key, value in given.items():
            if value is not None:
                group[key] = value
        said = FACTS | (facts or {})
        group.attrs.update({key: value for key, value in said.items() if value is not None})
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def test_a_label_is_read_back_with_a_spin_axis(path):
    write(path, "0000")
    write(path, "0001", {"spin": 2, "energy": None, "free_energy": None}, **arrays(2))
    labels = CrystalLabels([path])
    assert len(labels) == 2
    one, two = (labels.label(k, METHOD) for k in range(2))
    for found, given in ((one, arrays()), (two, arrays(2))):
        nspin = 2 if found is two else 1
        assert found.fock.shape == found.dm.shape == (nspin, 2, 2, 2)
        for name, own in (("fock", "fock"), ("density", "dm"), ("mo_energy", "mo_energy")):
            wanted = given[name].reshape(
                nspin, *given[name].shape[-3 if own != "mo_energy" else -2 :]
            )
            np.testing.assert_array_equal(getattr(found, own).numpy(), wanted)
        assert found.kmesh == (2, 1, 1)
        np.testing.assert_array_equal(found.kpts, given["kpts"])
    assert (one.energy, one.free_energy) == (-1.5, -1.6)
    assert (two.energy, two.free_energy) == (None, None)


def test_without_smearing_both_energies_are_one(path):
    found = CrystalLabels([write(path, facts={"free_energy": None})]).label(0, METHOD)
    assert (found.energy, found.free_energy) == (-1.5, -1.5)


def test_labels_are_found_by_structure(path, tmp_path):
    write(path, "0000", {"spin": 2})
    write(path, "0001")
    write(tmp_path / "b.h5", "0000", positions=COORDS + 0.5)
    labels = CrystalLabels([path, tmp_path / "b.h5"])
    changes = [
        ({}, 1), ({"spin": 2}, 0), ({"coords": COORDS + 0.5}, 2), ({"coords": COORDS + 1e-9}, 1),
        ({"charge": 1}, None), ({"coords": COORDS + 0.1}, None),
        ({"lattice": LATTICE * 1.01}, None),
        ({"numbers": np.array([1, 2])}, None), ({"pbc": (True, True, False)}, None),
        ({"lattice": None, "pbc": None}, None),
        ({"numbers": np.array([1]), "coords": COORDS[:1]}, None),
    ]  # fmt: skip
    for change, wanted in changes:
        given = {f.name: getattr(CHAIN, f.name) for f in dataclasses.fields(CHAIN)} | change
        given = {name: value for name, value in given.items() if value is not None}
        assert labels.index(Molecule(**given)) == wanted, change


def test_molecules_in_the_file_are_passed_over(path):
    write(path, "0000", lattice=None, pbc=None)
    write(path, "0001")
    labels = CrystalLabels([path])
    assert len(labels) == 1
    assert labels.label(0, METHOD).kmesh == (2, 1, 1)
    with pytest.raises(InputError, match="there is none"):
        CrystalLabels([path.with_name("none.h5")])


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"xc": "lda,vwn"}, "expected labels of xc pbe, got lda,vwn; label the structures with"),
        ({"basis": "gth-dzvp"}, "expected labels of basis gth-szv, got gth-dzvp"),
        ({"pseudo": "gth-lda"}, "expected labels of pseudo gth-pbe, got gth-lda"),
        ({"smearing": 0.01}, r"expected labels of smearing 0\.0, got 0\.01"),
    ],
)
def test_labels_of_another_method(path, facts, words):
    labels = CrystalLabels([write(path, facts=facts)])
    with pytest.raises(InputError, match=words) as caught:
        labels.label(0, METHOD)
    assert str(caught.value).startswith(f"{path} frame 0: ")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"converged": False}, "expected a converged label, its SCF did not converge; label it"),
        ({"refined": False, "converged": None}, "expected converged values, got a prediction that"),
        ({"refined": False, "converged": True}, "expected converged values, got a prediction that"),
        ({"refined": True, "converged": False}, "expected a converged label, its SCF did not"),
    ],
)
def test_what_is_not_converged_is_no_label(path, facts, words):
    labels = CrystalLabels([write(path, facts=facts)])
    for look in (labels.check, labels.label):
        with pytest.raises(InputError, match=words) as caught:
            look(0, METHOD)
        assert str(caught.value).startswith(f"{path} frame 0: ")


def test_the_label_of_a_refined_prediction_is_the_refined_matrix(path):
    own = arrays()["fock"]
    given = {"fock": own + np.eye(2), "fock_rebuilt": own}
    labels = CrystalLabels([write(path, facts={"refined": True}, **given)])
    np.testing.assert_array_equal(labels.label(0, METHOD).fock[0].numpy(), own)


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({}, ((2, 1, 1), None)),
        ({"fft_mesh": [9, 11, 12]}, ((2, 1, 1), (9, 11, 12))),
        ({"kmesh": None, "fft_mesh": "fine"}, (None, None)),
    ],
)
def test_grids_of_a_label_are_known_before_its_matrices_are_read(path, facts, wanted):
    labels = CrystalLabels([write(path, facts=facts, density=None)])
    assert labels.check(0, METHOD) == wanted
    with pytest.raises(InputError, match="expected labels of xc lda"):
        labels.check(0, dataclasses.replace(METHOD, xc="lda,vwn"))


def test_names_are_compared_without_their_case(path):
    facts = {"xc": "PBE", "pseudo": "GTH-PBE", "basis": "GTH-SZV", "smearing": None}
    assert CrystalLabels([write(path, facts=facts)]).label(0, METHOD).energy == -1.5


@pytest.mark.parametrize(
    ("changes", "facts", "words"),
    [
        ({"density": None}, {}, "expected density of"),
        ({"fock": np.eye(2)}, {}, r"expected matrices \[\*spin, nk, nao, nao\]|complex"),
        ({"kpts": np.zeros((3, 3))}, {}, "for 3 k-points; make the file again"),
        ({"density": np.zeros((2, 3, 3))}, {}, r"got \(2, 2, 2\) and \(2, 3, 3\)"),
        ({"fock": np.full((2, 2, 2), np.nan)}, {}, "expected finite fock, got NaN"),
        ({}, {"kmesh": None}, "expected a crystal's label, got 'kmesh'"),
        ({}, {"kmesh": [2, 1]}, "expected a crystal's label"),
    ],
)
def test_damaged_labels(path, changes, facts, words):
    labels = CrystalLabels([write(path, facts=facts, **changes)])
    with pytest.raises(InputError, match=words) as caught:
        labels.label(0, METHOD)
    assert "\n" not in str(caught.value)


def blocks(*, spinor=False):
    """S and a kinetic energy between neighbouring cells, as PySCF's Bloch sums have them."""
    cell = gto.Cell()
    cell.a, cell.unit, cell.verbose = LATTICE, "B", 0
    cell.atom = list(zip("HH", COORDS, strict=True))
    cell.basis, cell.pseudo = "gth-szv", "gth-pbe"
    cell.build()
    mesh = np.array([9, 9, 9])
    kpts = cell.make_kpts(mesh)
    scaled = cell.get_scaled_kpts(kpts)
    cells = np.array(list(np.ndindex(9, 9, 9))) - 4
    phases = np.exp(-2j * np.pi * scaled @ cells.T) / len(kpts)
    pairs = torch.tensor([(i, j) for i in (0, 1) for j in (0, 1)])
    out = {}
    for name, integral in (("overlap_blocks", "int1e_ovlp"), ("blocks", "int1e_kin")):
        matrix = np.einsum("kR,kij->Rij", phases, cell.pbc_intor(integral, kpts=kpts)).real
        out[name] = matrix.reshape(-1)
    return cell, out | {
        "block_atoms": pairs.repeat(len(cells), 1).numpy(),
        "block_cells": np.repeat(cells, 4, axis=0),
        "shells": np.array([[0, 0], [1, 0]]),
    } | dict.fromkeys(("fock", "density", "mo_energy", "mo_occ", "kpts")) | (
        {"spinor": True} if spinor else {}
    )


def test_blocks_alone_are_filled_on_the_mesh(path):
    """Levels are those of PySCF's matrices at the same k-points; two electrons fill the lower."""
    cell, given = blocks()
    labels = CrystalLabels([write(path, facts={"energy": None, "free_energy": None}, **given)])
    found = labels.label(0, METHOD)
    kpts = cell.get_abs_kpts(found.kpts)
    h, s = (np.asarray(cell.pbc_intor(n, kpts=kpts)) for n in ("int1e_kin", "int1e_ovlp"))
    for k in range(len(kpts)):
        levels = eigh(h[k], s[k], eigvals_only=True)
        np.testing.assert_allclose(found.mo_energy[0, k], levels, atol=1e-5)
        np.testing.assert_allclose(found.fock[0, k], h[k], atol=1e-5)
    assert (found.energy, found.kmesh) == (None, (2, 1, 1))
    assert found.mo_occ.sum(-1).tolist() == [[2.0] * len(kpts)]
    electrons = torch.einsum("kij,kji->k", found.dm[0], torch.from_numpy(s) + 0j).real
    np.testing.assert_allclose(electrons, 2, atol=1e-4)


def test_blocks_that_cannot_be_filled(path):
    _, given = blocks()
    labels = CrystalLabels([write(path, **given)])
    crystal = dataclasses.replace(METHOD.crystal, kmesh=None)
    with pytest.raises(InputError, match="expected a mesh of k-points for its real-space blocks"):
        labels.label(0, dataclasses.replace(METHOD, crystal=crystal))
    table = BlockMatrix.packed(
        torch.from_numpy(given["block_atoms"]), torch.from_numpy(given["block_cells"]),
        torch.from_numpy(np.zeros(4 * len(given["blocks"]))), (2, 2),
    )  # fmt: skip
    spinors = given | {"blocks": table.values.numpy() + 0j}
    labels = CrystalLabels([write(path, "0001", {"spinor": True}, **spinors)])
    with pytest.raises(InputError, match="expected collinear spins, got spin-orbit coupling"):
        labels.label(1, METHOD)
