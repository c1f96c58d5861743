"""What few calculations come to gives on a device what it gives on the CPU."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.pbc import gto as pbcgto

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.extent import shell_extents, significant_shells
from deeph_zero.ao.rotation import wigner_d
from deeph_zero.data.labels import Label
from deeph_zero.integrals.ao_engine import make_engine
from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.jobs.compare import compare
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.crystal import CrystalKohnSham
from deeph_zero.ks.grid.padded import _joined
from deeph_zero.ks.linalg import eigen, purify
from deeph_zero.ks.populations import populations
from deeph_zero.ks.protocol import AOBlock
from deeph_zero.ks.scf.adiis import adiis_coefficients
from deeph_zero.nn.extension import extended
from deeph_zero.nn.inputs import PhysicsMatrices
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.vibrations import _gradient
from deeph_zero.prepared.molecule import basis_layout

from .pretended import device_used
from .test_predictions import hydrogen, model

pytestmark = pytest.mark.gpu
BOTH = ("cuda", "cpu")
SIZES = (2, 1, 3)


def same(work, atol=1e-10):
    """``work`` of a device: tensors that live there, and the CPU's numbers."""
    found, wanted = (list(work(device)) for device in BOTH)
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert (one.device.type, other.device.type) == BOTH
        torch.testing.assert_close(one.cpu(), other, atol=atol, rtol=1e-9)


def some(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def symmetric(*shape):
    x = some(*shape, shape[-1])
    return x + x.mT


def molecule():
    return gto.M(atom="F 0 0 0; H .1 .2 .9", basis="sto-3g", verbose=0)


# ---- matrices and blocks -------------------------------------------------------------------------


def blocks(device, drop):
    """A crystal's matrix of two cells without one of its blocks."""
    places = [(i, j, r) for r in range(2) for i in range(3) for j in range(3)]
    del places[drop]
    table = torch.tensor(places)
    values = [some(SIZES[i], SIZES[j]) + i - j + r for i, j, r in places]
    cells = torch.stack([table[:, 2], 0 * table[:, 2], 0 * table[:, 2]], 1)
    made = BlockMatrix.from_blocks(table[:, :2], cells, values, SIZES)
    return dataclasses.replace(
        made, pattern=made.pattern.to(torch.device(device)), values=made.values.to(device)
    )


def test_sums_and_bloch_sums_of_blocks():
    def work(device):
        one, other = blocks(device, 4), blocks(device, 11)
        total = one.plus(other)
        kpts = some(2, 3).to(device)
        return total.values, total.cells, one.to_dense((1, 0, 0)), one.at_k(kpts)

    same(work)


def test_a_molecules_blocks():
    layout = basis_layout([molecule()])

    def work(device):
        matrix = BlockMatrix.from_dense(symmetric(6).to(device), (5, 1))
        return matrix.to_dense(), matrix.to_slots(layout, (9, 1)), matrix.pattern.elements()[1]

    same(work)


def test_blocks_that_are_there_are_joined():
    def work(device):
        index = torch.tensor([4, 1]).to(device)
        narrow = AOBlock(some(1, 3, 2).to(device), index, some(3).to(device))
        wide = AOBlock(some(1, 5, 3).to(device), None, some(5).to(device))
        joined = _joined([narrow, wide], 6)
        return joined.ao, joined.weights, joined.index

    same(work)


def test_purified_and_diagonalised_projectors():
    fock = symmetric(3, 6) + 40 * torch.diag(torch.tensor([0.0, 0, 0, 1, 1, 1]))
    nocc = torch.tensor([3, 3, 3])

    def work(device):
        given = fock.to(device), nocc.to(device)
        found, converged = purify.purified_density(*given)
        assert bool(converged.all())
        return found, eigen._eigen_projector(*given, checked=False)

    same(work, atol=1e-8)


def test_the_simplex_of_adiis():
    dms, focks = symmetric(4, 3), symmetric(4, 3)
    same(lambda d: [adiis_coefficients(list(dms.to(d)), list(focks.to(d)))])


def test_shells_that_reach_and_rotations():
    mol, nowhere = molecule(), np.zeros(4, bool)
    basis, centres = ao_basis(mol), torch.from_numpy(mol.atom_coords())
    extents = shell_extents(basis, 1e-10)

    def work(device):
        turn = torch.eye(3, dtype=torch.float64).to(device)
        points = (some(5, 3) + torch.tensor([0.0, 0, 4.0])).to(device)
        given = basis.to(device), extents.to(device), centres.to(device), points
        far = make_engine("libcint", mol, basis, points.cpu().numpy(), deriv=0, device=device)
        return significant_shells(*given), wigner_d(0, turn), far.rows(slice(0, 5), nowhere)

    same(work)


# ---- inputs and network --------------------------------------------------------------------------


def test_inputs_without_a_density():
    def work(device):
        matrices = PhysicsMatrices(
            ovlp=symmetric(4).to(device), hcore=symmetric(4).to(device), n_spin=2
        )
        return [matrices.channels()]

    same(work)


def test_a_network_with_more_elements():
    layout = basis_layout([molecule()])

    def work(device):
        network = FockNetwork(default_spec(layout, "tiny")).to(device)
        return [extended(network, {8: (0, 0, 1)}).scales.settled.to(torch.int8)]

    same(work)


# ---- converged states ----------------------------------------------------------------------------


def test_responses_of_a_converged_state():
    def work(device):
        ks = KohnSham.from_pyscf(molecule(), xc="svwn", grid_level=0, device=device)
        done = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-8)
        moved = done.fock_gradient(atoms=[1])
        charges = populations(done.dm[None], ks.data.ovlp, ks.info.ao_atoms, (9, 1))
        return moved.fock, done.polarizability(), charges.mulliken_charges, charges.bond_orders

    same(work, atol=1e-5)


def test_intervals_against_a_reference():
    found = []
    for device in BOTH:
        made, ks = model(device).predict_layer(hydrogen(0), coupled=False)
        numbers = {name: getattr(made, name) for name in ("fock", "dm", "energy", "mo_energy")}
        known = Label(**numbers, mo_occ=made.mo_energy)
        wide = dict.fromkeys(("energy", "homo", "lumo"), (-9.0, 9.0)) | {"gap": (-2.0, -1.0)}
        given = dataclasses.replace(made, intervals=wide)
        found.append(compare(given, known, ks, [[0], [0]])["covered"])
    assert found == [{"energy": True, "homo": True, "lumo": True, "gap": False}] * 2


def test_a_layer_that_is_made_again():
    def work(device):
        ks = KohnSham.from_pyscf(molecule(), xc="svwn", grid_level=0, device=device)
        assert ks._again is not None
        method = ks.info.method
        made = [ks._again(), KohnSham.without_builds(molecule(), xc="svwn", device=device)]
        made.append(KohnSham.of_method(molecule(), method, builds=False, device=device))
        names = ("ovlp", "hcore", "dipole", "nuclear_dipole")
        return [getattr(one.data, name) for one in made for name in names]

    same(work)


def test_forces_of_a_displaced_molecule():
    mf = dft.RKS(molecule(), xc="svwn")
    mf.grids.level = 0
    found = []
    for device in BOTH:
        ks = KohnSham.from_pyscf(mf, device=device)
        with device_used() if device == "cuda" else contextlib.nullcontext():
            found.append(_gradient(mf, ks, ks.scf(), molecule()))
    np.testing.assert_allclose(*found, atol=1e-6)


def skewed(points=9, spin=0):
    """Hydrogen in a cell without a right angle."""
    return pbcgto.M(
        atom="H 0 0 0; H .1 .2 1.4",
        a=[[4, 0, 0], [0.2, 4.1, 0], [0, 0.1, 4.2]],
        unit="bohr",
        basis="gth-szv",
        pseudo="gth-pade",
        mesh=[points] * 3,
        spin=spin,
        verbose=0,
    )


@pytest.mark.parametrize(("smearing", "kmesh"), [(0.0, (2, 1, 1)), (0.1, (3, 1, 1))])
def test_a_crystal_with_exact_exchange(smearing, kmesh):
    cell = skewed()

    def work(device):
        ks = CrystalKohnSham.from_pyscf(
            cell, kmesh=kmesh, xc="pbe0", smearing=smearing, device=device
        )
        built = ks.build(ks.density(ks.starting_fock()))
        again = CrystalKohnSham.of_method(cell, ks.info.method, device=device)
        density = ks.density(built.fock)
        return built.fock, density, ks.entropy_energy(built.fock), again.data.ovlp

    same(work, atol=1e-8)
