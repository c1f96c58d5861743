"""Records between formats: orders of functions, blocks, atoms, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag, eigvalsh

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.convention import SHELL_ORDERS
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Rescaled,
    Sink,
    Source,
    by_angular_momentum,
    check_matrix,
    check_one_basis,
    closed_shell,
    from_dense,
    identity,
    in_order,
    in_pyscf_order,
    on_blocks,
    permuted,
    read_record,
    required_overlap,
    sizes_of,
    union_of_blocks,
)
from deeph_zero.errors import InputError

from .conftest import assert_same, of_spinors, polarised

KPT = torch.tensor([[0.21, -0.33, 0.45]])


class Given:
    """A source of one record."""

    order = "pyscf"

    def __init__(self, record):
        self.record = record

    def __len__(self):
        return 1

    def place(self, index):
        return f"given frame {index}"

    def structure(self, _):
        return self.record.structure

    def matrices(self, _):
        return self.record.matrices


def with_fock(record, change):
    fock = record.matrices.fock
    values = fock.values.clone()
    change(values)
    matrices = dataclasses.replace(record.matrices, fock=fock.with_values(values))
    return Record(record.structure, matrices)


# ---- what a record is --------------------------------------------------------------------------


def test_kinds_of_matrices(crystal):
    assert sizes_of(((0, 1), (), (2, 3))) == (4, 0, 12)
    kinds = {None: (False, False), polarised: (False, True), of_spinors: (True, False)}
    for kind, wanted in kinds.items():
        m = (kind(crystal) if kind else crystal).matrices
        assert m.sizes == (10, 4, 10)
        assert (m.spinor, m.spin_polarised) == wanted
    assert isinstance(Given(crystal), Source)
    assert not isinstance(Given(crystal), Sink)


def test_a_record_is_read_as_it_is(crystal):
    found = read_record(Given(crystal), 0)
    assert_same(crystal, found, atol=1e-15)
    # the rounding of the integrals is gone
    assert found.matrices.fock.asymmetry() == 0.0


def test_functions_of_other_atoms_are_refused(crystal):
    fewer = dataclasses.replace(
        crystal.structure, numbers=crystal.structure.numbers[:2], coords=np.zeros((2, 3))
    )
    with pytest.raises(InputError, match="expected functions of 2 atoms, got 3; check that"):
        read_record(Given(Record(fewer, crystal.matrices)), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_elements_that_are_not_finite_are_refused(crystal, bad):
    def spoil(values):
        values[7] = bad

    with pytest.raises(InputError, match="expected finite elements of H, got NaN or infinity"):
        read_record(Given(with_fock(crystal, spoil)), 0)


def test_a_matrix_that_is_not_hermitian_is_refused(crystal):
    def spoil(values):
        values[7] += 0.01

    with pytest.raises(InputError, match=r"H\(i, j, R\) to be the adjoint of H\(j, i, -R\)"):
        read_record(Given(with_fock(crystal, spoil)), 0)
    # databases in single precision are within what is taken
    single = with_fock(crystal, lambda values: values.copy_(values.float()))
    assert_same(crystal, read_record(Given(single), 0), atol=1e-6)


def test_a_block_that_stands_twice_is_refused():
    pairs, cells = torch.zeros(2, 2).long(), torch.zeros(2, 3).long()
    twice = BlockMatrix.packed(pairs, cells, torch.ones(2).double(), (1,))
    with pytest.raises(InputError, match=r"^S: .*; check the file"):
        check_matrix(twice, "S")
    nothing = BlockMatrix.packed(pairs[:0], cells[:0], torch.zeros(0).double(), (1,))
    check_matrix(nothing, "S")


# ---- orders of functions -----------------------------------------------------------------------


@pytest.mark.parametrize("order", SHELL_ORDERS)
@pytest.mark.parametrize("kind", [None, polarised, of_spinors])
def test_every_order_there_and_back(crystal, order, kind):
    record = kind(crystal) if kind else crystal
    stored = in_order(record.matrices, order)
    assert_same(record, Record(crystal.structure, in_pyscf_order(stored, order)))
    # levels do not depend on an order
    one, other = (m.fock.at_k(KPT)[..., 0, :, :] for m in (record.matrices, stored))
    np.testing.assert_allclose(torch.linalg.eigvalsh(one), torch.linalg.eigvalsh(other), atol=1e-10)


def test_an_order_of_openmx_by_hand(molecule):
    found = in_order(molecule.matrices, "openmx").fock.to_dense()[:10, :10]
    # s, s, p as they are; xy yz z2 xz x2-y2 become z2 x2-y2 xy xz yz
    places = [0, 1, 2, 3, 4, 7, 9, 5, 8, 6]
    wanted = molecule.matrices.fock.to_dense()[places][:, places]
    assert torch.equal(found, wanted)


def test_signs_of_siesta_go_with_both_spins(molecule):
    record = of_spinors(molecule)
    plain, turned = (in_order(r.matrices, "siesta").fock for r in (molecule, record))
    block = turned.to_dense()[:20, 20:28]  # carbon and hydrogen, both spins of each
    upper = plain.to_dense()[:10, 10:14]
    torch.testing.assert_close(block[:10, :4].real, upper)
    torch.testing.assert_close(block[:10, 4:].imag, 0.3 * upper)
    torch.testing.assert_close(block[10:, 4:].real, 0.5 * upper)
    assert float((upper - molecule.matrices.fock.to_dense()[:10, 10:14]).abs().max()) > 0.1


def test_shells_sorted_by_angular_momentum():
    """Atom of p, s, p: the s function goes first, the p shells keep their order."""
    rng = np.random.default_rng(0)
    h = rng.normal(size=(8, 8))
    m = from_dense(((1, 0, 1), (0,)), h + h.T, np.eye(8), 2 * np.eye(8))
    found = by_angular_momentum(m)
    assert found.shells == ((0, 1, 1), (0,))
    places = [3, 0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_array_equal(found.fock.to_dense(), (h + h.T)[np.ix_(places, places)])
    assert found.density is not None
    np.testing.assert_array_equal(found.density.to_dense(), 2 * np.eye(8))


def test_shells_of_spinors_are_sorted_in_both_spins():
    up = np.diag(np.arange(4.0))
    sizes = (8,)
    fock = BlockMatrix.from_dense(torch.from_numpy(block_diag(up, up + 10) + 0j), sizes)
    found = by_angular_momentum(Matrices(shells=((1, 0),), fock=fock))
    assert found.fock.to_dense().diagonal().real.tolist() == [3, 0, 1, 2, 13, 10, 11, 12]


# ---- units -------------------------------------------------------------------------------------


def test_energies_in_another_unit(crystal):
    facts = {"energy": -2.0, "fermi": 0.5, "n_electrons": 8, "basis": "x"}
    record = Record(crystal.structure, dataclasses.replace(crystal.matrices, facts=facts))
    source = Rescaled(Given(record), 0.5)
    assert (len(source), source.order, source.place(0)) == (1, "pyscf", "given frame 0")
    assert source.structure(0) is crystal.structure
    found = source.matrices(0)
    assert found.facts == {"energy": -1.0, "fermi": 0.25, "n_electrons": 8, "basis": "x"}
    torch.testing.assert_close(found.fock.values, 0.5 * crystal.matrices.fock.values)
    assert found.overlap is crystal.matrices.overlap


# ---- dense matrices ----------------------------------------------------------------------------


def test_dense_matrices_of_another_basis_are_refused():
    with pytest.raises(InputError, match=r"expected S of 2 functions, got 3; give the basis"):
        from_dense(((0,), (0,)), np.eye(2), np.eye(3))
    found = from_dense(((0,), (0,)), np.stack([np.eye(2)] * 2), facts={"energy": 1.0})
    assert (found.spin_polarised, found.overlap, found.density) == (True, None, None)
    assert found.facts == {"energy": 1.0}
    assert from_dense(((0,),), np.eye(1)).facts == {}


def test_the_overlap_of_orthonormal_functions():
    np.testing.assert_array_equal(identity(((0, 1), (0,))).to_dense(), np.eye(5))


# ---- atoms and blocks --------------------------------------------------------------------------


def test_atoms_in_another_order(crystal, molecule):
    order = [2, 0, 1]
    found = permuted(molecule, order)
    assert found.structure.numbers.tolist() == [6, 6, 1]
    np.testing.assert_array_equal(found.structure.coords, molecule.structure.coords[order])
    places = [*range(14, 24), *range(14)]
    for name in ("fock", "overlap", "density"):
        old, new = (getattr(r.matrices, name).to_dense() for r in (molecule, found))
        assert torch.equal(new, old[places][:, places])
    turned = permuted(crystal, order).matrices
    levels = [
        eigvalsh(m.fock.at_k(KPT)[0].numpy(), m.overlap.at_k(KPT)[0].numpy())
        for m in (crystal.matrices, turned)
    ]
    np.testing.assert_allclose(*levels, atol=1e-10)


def test_elements_on_the_blocks_of_another(crystal):
    whole = crystal.matrices.fock
    near = whole.select(whole.cells.eq(0).all(1))
    found = on_blocks(near, whole)
    assert torch.equal(found.pairs, whole.pairs)
    assert torch.equal(found.to_dense(), whole.to_dense())
    assert not found.to_dense((1, 0, 0)).any()
    both = polarised(crystal).matrices.fock
    assert torch.equal(on_blocks(both, whole).values, both.values)


def test_blocks_that_any_of_the_matrices_has(crystal):
    m = crystal.matrices
    fock = m.fock.select(m.fock.pairs.eq(0).all(1))
    overlap = m.overlap.select(m.overlap.cells.eq(0).all(1))
    density = m.overlap.select(m.overlap.pairs.eq(2).all(1))
    pattern = union_of_blocks(
        Matrices(shells=m.shells, fock=fock, overlap=overlap, density=density)
    )
    keys = torch.cat([pattern.cells, pattern.pairs], 1).tolist()
    parts = (fock, overlap, density)
    wanted = {tuple(key) for p in parts for key in torch.cat([p.cells, p.pairs], 1).tolist()}
    assert keys == sorted(keys)
    assert {tuple(key) for key in keys} == wanted
    assert not pattern.values.any()
    spinors = union_of_blocks(of_spinors(crystal).matrices)
    assert spinors.sizes == (10, 4, 10)


# ---- what some formats cannot hold -------------------------------------------------------------


def test_an_overlap_that_a_format_needs(molecule):
    assert required_overlap(molecule.matrices) is molecule.matrices.overlap
    with pytest.raises(InputError, match="expected an overlap beside H, the source has none"):
        required_overlap(dataclasses.replace(molecule.matrices, overlap=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"charge": -1}, "got charge -1, spin 0; the layout of QH9 holds no other"),
        ({"spin": 2}, "got charge 0, spin 2"),
        ({"lattice": np.eye(3)}, "got a crystal"),
    ],
)
def test_formats_of_closed_shells_refuse_others(molecule, changes, message):
    assert closed_shell(molecule, "QH9") is molecule.structure
    other = dataclasses.replace(molecule.structure, **changes)
    with pytest.raises(InputError, match=message):
        closed_shell(Record(other, molecule.matrices), "QH9")


@pytest.mark.parametrize("kind", [polarised, of_spinors])
def test_formats_of_closed_shells_refuse_spins(molecule, kind):
    with pytest.raises(InputError, match="expected a neutral closed shell"):
        closed_shell(kind(molecule), "QH9")


def test_one_basis_per_element(molecule):
    known = {}
    check_one_basis(known, molecule, molecule.matrices.shells, "nablaDFT")
    assert known == {6: (0, 0, 1, 2), 1: (0, 1)}
    check_one_basis(known, molecule, molecule.matrices.shells, "nablaDFT")
    other = ((0, 0, 1, 2), (0,), (0, 0, 1, 2))
    with pytest.raises(InputError, match="got two of element 1; the layout of nablaDFT"):
        check_one_basis(known, molecule, other, "nablaDFT")
