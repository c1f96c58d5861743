"""What a format has to do: a :class:`Source` reads structures and matrices, a :class:`Sink` writes.

Between them stands one :class:`Record`: atomic units, PySCF's order inside shells, real-space
blocks. A source says how its functions are ordered; :func:`read_record` brings them into order.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.convention import from_pyscf, to_pyscf
from deeph_zero.errors import InputError, argument

Shells = tuple[tuple[int, ...], ...]
"""Angular momentum of every shell of every atom, in the order of the functions."""

_ASYMMETRY = 1e-4
"""Largest |A(R) - A(-R)†| of a matrix that counts as Hermitian, relative to its largest element;
databases in single precision keep 1e-7 of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Structure:
    """A molecule or a crystal.

    Attributes:
        numbers: Atomic numbers.
        coords: Cartesian coordinates, bohr.
        lattice: Lattice vectors in rows, bohr; None for a molecule.
        charge: Total charge.
        spin: 2S where it is known.
        name: What the file calls it.
    """

    numbers: Int[np.ndarray, " natm"]
    coords: Float[np.ndarray, "natm 3"]
    lattice: Float[np.ndarray, "3 3"] | None = None
    pbc: Bool[np.ndarray, " 3"] = dataclasses.field(default_factory=lambda: np.zeros(3, dtype=bool))
    charge: int = 0
    spin: int = 0
    name: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlochDensity:
    """The density of a crystal at its k-points, functions in PySCF's order.

    Attributes:
        kpts: Fractions of the reciprocal vectors.
        weights: Weights of the points, sum 1; one of k and -k may stand for both.
        dm: P of each spin.
        mesh: Points of the FFT mesh it was computed on; None where that is not known.
    """

    kpts: Float[np.ndarray, "nk 3"]
    weights: Float[np.ndarray, " nk"]
    dm: Complex[np.ndarray, "nspin nk nao nao"]
    mesh: tuple[int, int, int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrices:
    """Matrices of one structure, hartree.

    Attributes:
        shells: Angular momenta; matrices of a spinor basis have twice as many functions per atom,
            the first half spin up.
        fock: H; a leading axis of 2 for two collinear spins.
        overlap: S, without spin.
        density: P.
        facts: What else the file says: ``energy`` and ``fermi`` (Eh), ``basis``, ``xc``,
            ``n_electrons``, ``folded`` (blocks of other cells were added to those of one).
        bloch: Reads the density of a crystal at its k-points, where the file has one.
    """

    shells: Shells
    fock: BlockMatrix
    overlap: BlockMatrix | None = None
    density: BlockMatrix | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bloch: Callable[[], BlochDensity] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Functions of each atom, without spin."""
        return sizes_of(self.shells)

    @property
    def spinor(self) -> bool:
        """Whether spin up and down are mixed in one complex matrix."""
        return self.fock.sizes != self.sizes

    @property
    def spin_polarised(self) -> bool:
        """Whether there are two matrices, of spin up and down."""
        return self.fock.values.ndim == 2


@dataclasses.dataclass(frozen=True)
class Record:
    """One structure with its matrices, functions in PySCF's order inside shells.

    Attributes:
        structure: The atoms.
        matrices: Their matrices.
    """

    structure: Structure
    matrices: Matrices


@runtime_checkable
class Source(Protocol):
    """A file (or folder) with structures and their matrices; nothing is kept in memory."""

    order: str
    """Stored order of the functions, one of :data:`deeph_zero.ao.convention.SHELL_ORDERS`."""

    def __len__(self) -> int:
        """Number of structures."""
        ...

    def place(self, index: int) -> str:
        """File and frame, or folder, for messages."""
        ...

    def structure(self, index: int) -> Structure:
        """A structure; raises InputError where it cannot be read."""
        ...

    def matrices(self, index: int) -> Matrices:
        """Matrices of a structure, functions as they are stored; raises InputError."""
        ...


@runtime_checkable
class Sink(Protocol):
    """A file (or folder) that is being written."""

    def write(self, record: Record) -> None:
        """Add one record; raises InputError where the format cannot hold it."""
        ...


class Rescaled:
    """A source whose energies are in another unit than those of its format."""

    def __init__(self, source: Source, factor: float) -> None:
        """Nothing is read yet.

        Args:
            source: The file.
            factor: What its energies are multiplied with.
        """
        self._source, self._factor = source, factor
        self.order = source.order

    def __len__(self) -> int:
        """Number of structures."""
        return len(self._source)

    def place(self, index: int) -> str:
        """As the source says."""
        return self._source.place(index)

    def structure(self, index: int) -> Structure:
        """As the source says."""
        return self._source.structure(index)

    def matrices(self, index: int) -> Matrices:
        """The source's, H in hartree."""
        found = self._source.matrices(index)
        energies = ("energy", "fermi", "fermi_of_spins")
        facts = {
            name: value * self._factor if name in energies else value
            for name, value in found.facts.items()
        }
        fock = found.fock.with_values(found.fock.values * self._factor)
        return dataclasses.replace(found, fock=fock, facts=facts)


def sizes_of(shells: Shells) -> tuple[int, ...]:
    """Functions of each atom."""
    return tuple(sum(2 * l + 1 for l in ls) for ls in shells)


def read_record(source: Source, index: int, *, order: str | None = None) -> Record:
    """A structure of a source, checked and in PySCF's order.

    Args:
        source: The file.
        index: Position, from 0.
        order: The order the functions are stored in; the source's where None.

    Returns:
        The record.

    Raises:
        InputError: If it cannot be read, or a matrix is not finite or not Hermitian.
    """
    structure, matrices = source.structure(index), source.matrices(index)
    if len(matrices.shells) != len(structure.numbers):
        raise InputError(
            f"expected functions of {len(structure.numbers)} atoms, got {len(matrices.shells)}; "
            "check that the files belong together"
        )
    found = {"H": matrices.fock, "S": matrices.overlap, "P": matrices.density}
    for name, matrix in found.items():
        if matrix is not None:
            check_matrix(matrix, name)
    return Record(structure, in_pyscf_order(matrices, order or source.order))


def check_matrix(matrix: BlockMatrix, name: str) -> None:
    """Refuse what cannot be a matrix of an operator.

    Args:
        matrix: The blocks.
        name: For messages.

    Raises:
        InputError: If it is not finite, has a block twice, or is not Hermitian.
    """
    if not bool(torch.isfinite(torch.view_as_real(matrix.values + 0j)).all()):
        raise InputError(f"expected finite elements of {name}, got NaN or infinity; leave it out")
    try:
        asymmetry = matrix.asymmetry()
    except ValueError as error:
        raise InputError(f"{name}: {error}; check the file") from None
    largest = float(matrix.values.abs().max()) if matrix.values.numel() else 0.0
    if asymmetry > _ASYMMETRY * max(1.0, largest):
        raise InputError(
            f"expected {name}(i, j, R) to be the adjoint of {name}(j, i, -R), got a difference of "
            f"{asymmetry:.1e}; check the file"
        )


def in_pyscf_order(matrices: Matrices, order: str) -> Matrices:
    """Matrices with functions in ``order`` brought into PySCF's; Hermitian to the last digit."""
    return _reordered(matrices, order, into=True)


def in_order(matrices: Matrices, order: str) -> Matrices:
    """Matrices with functions in PySCF's order brought into ``order``."""
    return _reordered(matrices, order, into=False)


def _reordered(matrices: Matrices, order: str, *, into: bool) -> Matrices:
    table = to_pyscf if into else from_pyscf
    known = {ls: table(ls, order) for ls in set(matrices.shells)}

    def turned(matrix: BlockMatrix | None) -> BlockMatrix | None:
        if matrix is None:
            return None
        double = matrix.sizes != matrices.sizes
        places, signs = [], []
        for ls in matrices.shells:
            where, sign = known[ls]
            if double:  # spin up, then spin down
                where, sign = [*where, *(k + len(where) for k in where)], sign * 2
            places.append(torch.tensor(where, dtype=torch.long))
            signs.append(torch.tensor(sign, dtype=torch.float64))
        found = matrix if order == "pyscf" else matrix.reordered(places, signs)
        return found.hermitian() if into else found

    fock = turned(matrices.fock)
    assert fock is not None
    return dataclasses.replace(
        matrices,
        fock=fock,
        overlap=turned(matrices.overlap),
        density=turned(matrices.density),
        bloch=matrices.bloch if order == "pyscf" else None,
    )


def from_dense(
    shells: Shells,
    fock: np.ndarray,
    overlap: np.ndarray | None = None,
    density: np.ndarray | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Matrices:
    """Matrices of a molecule from dense arrays.

    Args:
        shells: Angular momenta.
        fock: [nao, nao] or [2, nao, nao], Eh.
        overlap: [nao, nao].
        density: As ``fock``.
        facts: See :class:`Matrices`.

    Returns:
        The matrix as blocks.

    Raises:
        InputError: If a matrix has another size than the shells.
    """
    sizes = sizes_of(shells)

    def blocks(name: str, matrix: np.ndarray) -> BlockMatrix:
        nao = sum(sizes)
        if matrix.shape[-2:] != (nao, nao):
            raise InputError(
                f"expected {name} of {nao} functions, got {matrix.shape[-1]}; give the "
                f"{argument('basis')} it is in"
            )
        return BlockMatrix.from_dense(torch.from_numpy(np.ascontiguousarray(matrix)), sizes)

    return Matrices(
        shells=shells,
        fock=blocks("H", fock),
        overlap=None if overlap is None else blocks("S", overlap),
        density=None if density is None else blocks("P", density),
        facts=facts or {},
    )


def permuted(record: Record, atoms: Sequence[int]) -> Record:
    """This record with its atoms in another order.

    Args:
        record: A structure and its matrices.
        atoms: For each new place the old one.

    Returns:
        The record in the new order.
    """
    old = list(atoms)
    new_place = torch.tensor(np.argsort(old), dtype=torch.long)

    def turned(matrix: BlockMatrix | None) -> BlockMatrix | None:
        if matrix is None:
            return None
        sizes = tuple(matrix.sizes[k] for k in old)
        return BlockMatrix.packed(new_place[matrix.pairs], matrix.cells, matrix.values, sizes)

    s, m = record.structure, record.matrices
    fock = turned(m.fock)
    assert fock is not None
    return Record(
        dataclasses.replace(s, numbers=s.numbers[old], coords=s.coords[old]),
        dataclasses.replace(
            m,
            shells=tuple(m.shells[k] for k in old),
            fock=fock,
            overlap=turned(m.overlap),
            density=turned(m.density),
            bloch=None,
        ),
    )


def on_blocks(matrix: BlockMatrix, pattern: BlockMatrix) -> BlockMatrix:
    """The elements of a matrix in the blocks of another; zero where it has none.

    Args:
        matrix: The elements.
        pattern: Its pairs and cells; every block of ``matrix`` is among them.

    Returns:
        A matrix with the pattern's blocks.
    """
    keys = torch.cat([matrix.pairs, matrix.cells], 1).tolist()
    there = {tuple(key): k for k, key in enumerate(keys)}
    lead = matrix.values.shape[:-1]
    wanted = torch.cat([pattern.pairs, pattern.cells], 1).tolist()
    blocks = []
    for key in wanted:
        place = there.get(tuple(key))
        shape = (*lead, matrix.sizes[key[0]], matrix.sizes[key[1]])
        blocks.append(matrix.values.new_zeros(shape) if place is None else matrix.block(place))
    return BlockMatrix.from_blocks(pattern.pairs, pattern.cells, blocks, matrix.sizes)


def union_of_blocks(matrices: Matrices) -> BlockMatrix:
    """A pattern with every block that any of the matrices has, sorted by (R, i, j).

    Args:
        matrices: Matrices of one structure.

    Returns:
        Zeros, of the sizes without spin.
    """
    parts = [m for m in (matrices.fock, matrices.overlap, matrices.density) if m is not None]
    keys = torch.cat([torch.cat([m.cells, m.pairs], 1) for m in parts]).unique(dim=0)
    pairs, cells = keys[:, 3:], keys[:, :3]
    sizes = torch.tensor(matrices.sizes, dtype=torch.long)
    total = int(sizes[pairs].prod(1).sum()) if len(keys) else 0
    return BlockMatrix.packed(pairs, cells, torch.zeros(total, dtype=torch.float64), matrices.sizes)


def by_angular_momentum(matrices: Matrices) -> Matrices:
    """Matrices with the shells of each atom sorted by l, otherwise as they were."""
    order = [sorted(range(len(ls)), key=ls.__getitem__) for ls in matrices.shells]
    places = []
    for ls, shells in zip(matrices.shells, order, strict=True):
        starts = np.cumsum([0, *(2 * l + 1 for l in ls)])
        inside = [np.arange(starts[k], starts[k + 1]) for k in shells]
        places.append(torch.from_numpy(np.concatenate(inside) if inside else starts[:0]))
    signs = [torch.ones(len(p), dtype=torch.float64) for p in places]

    def turned(matrix: BlockMatrix | None) -> BlockMatrix | None:
        if matrix is None:
            return None
        if matrix.sizes == matrices.sizes:
            return matrix.reordered(places, signs)
        double = [torch.cat([p, p + len(p)]) for p in places]
        return matrix.reordered(double, [s.repeat(2) for s in signs])

    fock = turned(matrices.fock)
    assert fock is not None
    return dataclasses.replace(
        matrices,
        shells=tuple(tuple(sorted(ls)) for ls in matrices.shells),
        fock=fock,
        overlap=turned(matrices.overlap),
        density=turned(matrices.density),
        bloch=None,
    )


def identity(shells: Shells) -> BlockMatrix:
    """The overlap of orthonormal functions."""
    sizes = sizes_of(shells)
    pairs = torch.arange(len(sizes))[:, None].expand(-1, 2).contiguous()
    blocks = [torch.eye(n, dtype=torch.float64) for n in sizes]
    return BlockMatrix.from_blocks(pairs, torch.zeros(len(sizes), 3).long(), blocks, sizes)


def required_overlap(matrices: Matrices) -> BlockMatrix:
    """The overlap, for formats that cannot be without one.

    Args:
        matrices: Matrices of one structure.

    Returns:
        S.

    Raises:
        InputError: If there is none.
    """
    if matrices.overlap is None:
        raise InputError(
            "expected an overlap beside H, the source has none; convert it to labels (.h5) with "
            f"its {argument('basis')} first"
        )
    return matrices.overlap


def closed_shell(record: Record, title: str) -> Structure:
    """The structure of a record, for formats of neutral closed-shell molecules.

    Args:
        record: A structure and its matrices.
        title: Name of the format, for the message.

    Returns:
        The structure.

    Raises:
        InputError: If it is a crystal, charged, or of an open shell.
    """
    structure, matrices = record.structure, record.matrices
    spin = structure.spin or matrices.spin_polarised or matrices.spinor
    if structure.lattice is None and structure.charge == 0 and not spin:
        return structure
    what = f"charge {structure.charge}, spin {structure.spin}"
    if structure.lattice is not None:
        what = "a crystal"
    raise InputError(
        f"expected a neutral closed shell, got {what}; the layout of {title} holds no other"
    )


def check_one_basis(
    known: dict[int, tuple[int, ...]], record: Record, shells: Shells, title: str
) -> None:
    """Refuse a second basis of an element, for formats that state one; remember the first.

    Args:
        known: Angular momenta of the elements so far; grows.
        record: Whose atoms these are.
        shells: Angular momentum of every shell of every atom.
        title: Name of the format, for the message.

    Raises:
        InputError: If an element comes with other shells than before.
    """
    for number, ls in zip(record.structure.numbers.tolist(), shells, strict=True):
        if known.setdefault(number, ls) != ls:
            raise InputError(
                f"expected one basis per element, got two of element {number}; the layout of "
                f"{title} holds no other"
            )
