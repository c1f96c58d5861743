"""Real-space blocks give H and S at any k-point; bands along a path are PySCF's."""

import math

import numpy as np
import pytest
import torch
from pyscf.pbc import dft

import deeph_zero as dz
from deeph_zero.ao.folding import fold, on_cells
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals.periodic import folded_blocks
from deeph_zero.integrals.periodic.bloch_values import BlochValues
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.torus_values import TorusValues, half_mesh
from deeph_zero.kohnsham.k_path import k_path

CASES = {
    "PBE": ("chain", {"xc": "pbe"}, {}),
    "LDA of spins": ("chain", {"xc": "lda,vwn", "moments": (1, -1)}, {}),
    "meta-GGA": ("chain", {"xc": "r2scan"}, {}),
    "one atom": ("helium", {"xc": "pbe"}, {"ke_cutoff": 40}),
}
KPTS = torch.tensor([[0.123, 0.456, -0.21], [0.33, -0.07, 0.49], [0.0, 0.0, 0.0]]).double()


@pytest.fixture(scope="module")
def solved(crystal):
    known = {}

    def solve(case):
        if case not in known:
            name, keywords, changes = CASES[case]
            cell = crystal(name, **{"ke_cutoff": 80, "precision": 1e-8, **changes})
            ks = dz.KohnSham.from_pyscf(cell, kmesh=(2, 1, 1), **keywords)
            known[case] = cell, ks, ks.scf(conv_tol=1e-7)
        return known[case]

    return solve


@pytest.mark.parametrize("case", CASES)
def test_blocks_give_the_matrices_at_any_k(case, solved):
    """The SCF's mesh of two points would be wrong by more than 0.01 Eh between them."""
    _, ks, result = solved(case)
    found = result.real_space()
    exact = result.hamiltonian(KPTS)
    fock = found.fock.at_k(KPTS)
    assert fock.shape == (exact if ks.unrestricted else exact[0]).shape
    torch.testing.assert_close(fock, exact if ks.unrestricted else exact[0], atol=5e-7, rtol=0)
    torch.testing.assert_close(found.overlap.at_k(KPTS), ks.overlap_at(KPTS), atol=5e-7, rtol=0)
    assert found.fock.asymmetry() < 1e-12
    assert found.overlap.asymmetry() < 1e-12


def test_the_listed_blocks_are_these(solved):
    _, _, result = solved("PBE")
    total = torch.zeros(2, 2, dtype=torch.complex128)
    for i, j, cell, block in result.blocks():
        assert block.shape == (1, 1)
        phase = 2 * math.pi * sum(float(x) * r for x, r in zip(KPTS[0], cell, strict=True))
        total[i, j] += complex(math.cos(phase), math.sin(phase)) * block[0, 0]
    torch.testing.assert_close(total, result.hamiltonian(KPTS)[0, 0], atol=5e-7, rtol=0)


def test_blocks_are_of_their_own_result(crystal):
    """A later build of the same layer does not change them."""
    ks = dz.KohnSham.from_pyscf(crystal("chain"), kmesh=(2, 1, 1))
    with pytest.raises(ComputationError, match="scf"):
        ks.real_space()
    result = ks.scf(conv_tol=1e-4)
    before = result.hamiltonian([[0.1, 0.2, 0.3]])
    ks.build(0.9 * result.dm)
    assert torch.equal(result.hamiltonian([[0.1, 0.2, 0.3]]), before)


@pytest.mark.parametrize(("name", "counts"), [("chain", (4, 3, 3)), ("slab", (3, 4, 1))])
@pytest.mark.parametrize("deriv", [0, 1])
def test_values_on_the_torus_are_bloch_sums(name, counts, deriv, crystal):
    cell = crystal(name, precision=1e-9, **({"dimension": 2} if name == "slab" else {}))
    mesh = (5, 6, 9)
    coords = cell.get_uniform_grids(mesh, wrap_around=False)
    values = TorusValues(cell, counts, mesh, deriv=deriv)
    np.testing.assert_allclose(values.scaled, half_mesh(counts))
    points = KPoints(scaled=values.scaled, weights=np.full(values.nk, 1 / values.nk))
    plain = BlochValues(cell, points, coords, deriv=deriv, memory_mb=0.0)
    found = torch.cat([values.block(b).groups[0].ao for b in range(values.n_blocks)], -1)
    found = found[..., np.argsort(values.order)]
    wanted = torch.empty_like(found)
    for b in range(plain.n_blocks):
        block = plain.block(b)
        for group in block.groups:
            wanted[group.index, ..., block.points] = group.ao.to(wanted)
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=0)


def test_folding_puts_blocks_where_atoms_are_near():
    """A matrix of known blocks comes back, cells that lean and pairs at equal distance included."""
    lattice = torch.tensor([[2.0, 0, 0], [1.7, 1.9, 0], [0, 0.4, 2.2]]).double()
    coords = torch.tensor([[0.1, 0.2, 0.3], [1.1, 0.2, 0.3]]).double()
    counts = (5, 4, 6)
    torch.manual_seed(0)
    generator = torch.rand(3, 3, dtype=torch.float64)
    values = {}
    reach = 2.6
    for a in range(-4, 5):
        for b in range(-4, 5):
            for c in range(-4, 5):
                for i in range(2):
                    for j in range(2):
                        apart = torch.tensor([a, b, c]).double() @ lattice + coords[j] - coords[i]
                        if apart.norm() < reach:
                            values[i, j, a, b, c] = float(apart @ generator @ apart) + 1.0
    kpts = torch.from_numpy(half_mesh(counts))
    matrices = torch.zeros(len(kpts), 2, 2, dtype=torch.complex128)
    for (i, j, *cell), value in values.items():
        phase = 2 * math.pi * (kpts @ torch.tensor(cell).double())
        matrices[:, i, j] += value * torch.polar(torch.ones_like(phase), phase)
    (found,) = fold([on_cells(matrices, counts)], [1, 1], coords, lattice, 1e-10)
    keys = torch.cat([found.pairs, found.cells], 1).tolist()
    back = {tuple(key): float(found.block(k)) for k, key in enumerate(keys)}
    assert back.keys() == values.keys()
    assert max(abs(back[key] - values[key]) for key in values) < 1e-12


def test_functions_without_end_are_refused(monkeypatch, solved):
    monkeypatch.setattr(folded_blocks, "MOST_POINTS", 20)
    _, _, result = solved("PBE")
    with pytest.raises(ComputationError, match="reach over at most 20 cells"):
        result.real_space()


def test_bands_are_pyscfs(solved):
    """PySCF diagonalises its own F, of our density on the whole mesh, at the path's points."""
    cell, ks, result = solved("PBE")
    bands = result.bands("GX", points=4)
    kpts = np.concatenate([ks.info.kpts, -ks.info.kpts[ks.info.kweights > 0.9]])
    assert len(kpts) == len(ks.info.kpts) == 2
    mf = dft.KRKS(cell, cell.get_abs_kpts(kpts), xc="pbe")
    levels, _ = mf.get_bands(
        cell.get_abs_kpts(bands.path.kpts), dm_kpts=result.dm[0].numpy().astype(complex)
    )
    np.testing.assert_allclose(bands.energies[0].numpy(), np.array(levels), atol=1e-8)
    assert bands.path.labels == ("G", "X")
    assert bands.fermi == result.fermi


def test_paths():
    graphene = np.array([[4.65, 0, 0], [-2.325, 4.027, 0], [0, 0, 0]])
    line = k_path(graphene, (True, True, False), "GMKG", 31)
    assert line.labels == ("G", "M", "K", "G")
    assert len(line.kpts) == 31
    np.testing.assert_allclose(line.kpts[[0, -1]], 0)
    assert line.distances[-1] == line.ticks[-1]
    # from Γ to M: half a reciprocal vector
    assert line.ticks[1] == pytest.approx(2 * np.pi / 4.65 / math.sqrt(3), rel=2e-3)
    own = k_path(graphene, (True, True, False), points=31)
    assert own.path == "GMKG"
    fcc = np.array([[0, 5.1, 5.1], [5.1, 0, 5.1], [5.1, 5.1, 0]])
    jump = k_path(fcc, (True, True, True), "GXWKG,UX", 40)
    assert jump.labels == ("G", "X", "W", "K", "G", "U", "X")
    assert jump.ticks[4] == jump.ticks[5]


@pytest.mark.parametrize(
    ("path", "points", "word"),
    [("GXQ", 20, "special points out of G, K, L, U, W, X"), ("", 20, "special points"),
     ("gx", 20, "special points"), ("GXWKG", 3, "at least"), ("GX", 0, "2 to 100000")],
)  # fmt: skip
def test_wrong_paths(path, points, word):
    fcc = np.array([[0, 5.1, 5.1], [5.1, 0, 5.1], [5.1, 5.1, 0]])
    with pytest.raises(InputError, match=word):
        k_path(fcc, (True, True, True), path, points)
