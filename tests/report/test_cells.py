"""Crystals in the viewer: values against PySCF's own, faces and images, and pages with them."""

import dataclasses
import json
import re

import numpy as np
import pytest
from pyscf.pbc.dft import numint

from deeph_zero.errors import InputError
from deeph_zero.molecule import Molecule
from deeph_zero.report import cells, volumes
from deeph_zero.report.page import render

FULL = np.array([[0, 0, 0], [1 / 3, 0, 0], [-1 / 3, 0, 0]])


@pytest.mark.reference
@pytest.mark.parametrize("spins", [1, 2])
def test_fields_are_pyscfs_on_the_whole_mesh(spins, crystal):
    cell, source = crystal(spins)
    assert source.hdf5 is not None
    matrices = cells.read_cell(source.hdf5, source.structures[0])
    assert matrices is not None
    points = np.random.default_rng(1).random((40, 3)) @ cell.lattice_vectors()
    found = cells.evaluate(matrices, cells.cell_of(matrices), points)
    kpts = cell.get_abs_kpts(FULL)
    ao = numint.eval_ao_kpts(cell, points, kpts)
    dms = matrices.dm[:, [0, 1, 1]].copy()
    dms[:, 2] = dms[:, 2].conj()
    rho = [numint.KNumInt().eval_rho(cell, ao, dm, hermi=1) for dm in dms]
    np.testing.assert_allclose(found["density"], sum(rho), atol=1e-4 * np.max(rho))
    tails = ("",) if spins == 1 else ("_alpha", "_beta")
    assert list(found)[:-spins] == [f"{n}_gamma{t}" for n in ("homo", "lumo") for t in tails]
    if spins == 2:
        np.testing.assert_allclose(found["spin_density"], rho[0] - rho[1], atol=1e-4)
    for tail, filled in zip(tails, matrices.occupied, strict=True):
        fock = matrices.hamiltonian[tails.index(tail)].real
        values, vectors = np.linalg.eigh(matrices.overlap.real)
        x = vectors / np.sqrt(values)
        psi = ao[0].real @ (x @ np.linalg.eigh(x.T @ fock @ x)[1])[:, filled - 1]
        ours = found["homo_gamma" + tail]
        np.testing.assert_allclose(np.sign(psi @ ours) * ours, psi, atol=1e-4)


def test_faces_repeat_and_the_density_has_all_electrons(crystal):
    _, source = crystal()
    assert source.hdf5 is not None
    matrices = cells.read_cell(source.hdf5, source.structures[0])
    assert matrices is not None
    scene = cells.scene(matrices, cells.cell_of(matrices))
    assert scene["repeats"] == [3, 2, 2]
    values = volumes.unpack(scene["fields"]["density"]).reshape(scene["shape"])
    np.testing.assert_array_equal(values[0], values[-1])
    np.testing.assert_array_equal(values[:, 0], values[:, -1])
    np.testing.assert_array_equal(values[..., 0], values[..., -1])
    steps = np.array(scene["steps"]) * (np.array(scene["shape"]) - 1)[:, None]
    np.testing.assert_allclose(steps, np.array(scene["cell"]) * [[3], [2], [2]], atol=1e-5)
    # of twelve cells: the first atom is near three faces and is seen on those opposite, too
    assert len(scene["symbols"]) == 36 + 12
    assert len(np.unique(np.array(scene["xyz"]).round(3), axis=0)) == 36 + 12
    grid = cells.make_grid(matrices.molecule)
    density = cells.evaluate(matrices, cells.cell_of(matrices), grid.points())["density"]
    volume = abs(np.linalg.det(grid.steps))
    assert density.sum() * volume == pytest.approx(2.0, abs=1e-3)


def test_a_layer_is_seen_in_its_own_height():
    molecule = Molecule(
        numbers=np.array([6, 6]),
        coords=np.array([[0, 0, 30.0], [2.3, 1.3, 31.0]]),
        lattice=np.array([[4.6, 0, 0], [2.3, 4.0, 0], [0, 0, 60.0]]),
        pbc=(True, True, False),
    )
    grid = cells.make_grid(molecule)
    assert grid.repeats == (3, 3, 1)
    heights = grid.points()[:, 2]
    assert heights.min() == pytest.approx(30 - cells.MARGIN)
    assert 31 + cells.MARGIN - 0.5 < heights.max() < 31 + cells.MARGIN
    shown = grid.shown(np.zeros(grid.shape)).shape
    assert shown == (3 * grid.shape[0] + 1, 3 * grid.shape[1] + 1, grid.shape[2])
    assert np.prod(shown) < 1.3 * cells.MAX_POINTS


def test_a_page_has_the_cell(crystal):
    _, source = crystal()
    page = render(source)
    text = re.search(r'id="scenes">(.*?)</script>', page, re.DOTALL)
    assert text is not None
    (scene,) = json.loads(text[1])["scenes"]
    assert scene["label"] == "mol.xyz:0 (H₂)"
    assert set(scene["fields"]) == {"homo_gamma", "lumo_gamma", "density"}
    assert "Cell, density and orbitals" in page
    assert "grid level" not in page.partition("Settings and versions")[0]


def test_a_layer_in_a_low_box_prints_nothing(crystal, capfd):
    """What there is to say of the box was said when the layer was computed."""
    _, source = crystal()
    assert source.hdf5 is not None
    found = cells.read_cell(source.hdf5, source.structures[0])
    layer = dataclasses.replace(found.molecule, pbc=(True, True, False))
    assert cells.cell_of(dataclasses.replace(found, molecule=layer)).dimension == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"basis": "gth-szv"}, "expected 2 orbitals with this basis set, got 10"),
        ({"basis": "gth-nothing"}, "expected a basis set of PySCF"),
    ],
)
def test_a_basis_that_is_not_the_files_is_a_note(changes, note, crystal):
    _, source = crystal(**changes)
    page = render(source)
    assert 'id="viewer"' not in page
    assert f"No surfaces for mol.xyz:0 (H₂): {note}" in page


def test_matrices_of_another_shape_are_an_error_of_the_file(crystal):
    _, source = crystal(arrays={"mo_occ": np.zeros((3, 7))})
    assert source.hdf5 is not None
    with pytest.raises(InputError, match=r"expected matrices at k-points, got .*; write the file"):
        cells.read_cell(source.hdf5, source.structures[0])
