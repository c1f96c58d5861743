"""Files of SIESTA, written record by record."""

import struct

import numpy as np

from .conftest import CELLS, LATTICE

# PySCF's functions of a shell in SIESTA's order, and their signs, written down by hand
ORDER = {0: [0], 1: [1, 2, 0], 2: [0, 1, 2, 3, 4]}


SIGNS = {0: [1], 1: [-1, 1, -1], 2: [1, -1, 1, -1, 1]}


def record(*parts):
    content = b"".join(p if isinstance(p, bytes) else np.asarray(p).tobytes() for p in parts)
    mark = struct.pack("<i", len(content))
    return mark + content + mark


def ints(*values):
    return np.array(values, dtype="<i4")


def siesta_matrix(matrix, shells):
    """Dense A(R) in SIESTA's order, for every cell of the file."""
    places, signs = [], []
    for l in [l for ls in shells for l in ls]:
        places += [len(signs) + k for k in ORDER[l]]
        signs += SIGNS[l]
    for cell in CELLS:
        dense = matrix.to_dense(cell).numpy()
        yield dense[..., np.array(places)[:, None], places] * np.outer(signs, signs)


def hsx(found, spins=None, *, version=1, double=True, cells=CELLS):
    """The file, every orbital a neighbour of every other."""
    structure, matrices = found.structure, found.matrices
    nao, ncell = sum(matrices.sizes), len(cells)
    kind = "<f8" if double else "<f4"
    chosen = [CELLS.index(cell) for cell in cells]
    dense = [list(siesta_matrix(m, matrices.shells)) for m in (matrices.fock, matrices.overlap)]
    fock, overlap = (np.concatenate([d[k] for k in chosen], axis=1) for d in dense)
    spins = [2 * fock] if spins is None else [2 * s(fock) for s in spins]
    nsc = (3, 3, 3) if ncell == 27 else (1, 1, 1)
    out = record(ints(version)) + record(ints(int(double)))
    out += record(ints(3, nao, len(spins), 2, *nsc))
    out += record(LATTICE, np.array([-0.5, 9.0, 0.001]))
    out += record(ints(cells), structure.coords, ints(1, 2, 1), ints(np.cumsum(matrices.sizes)))
    label = lambda s, valence, n: s.ljust(20).encode() + struct.pack("<di", valence, n)  # noqa: E731
    out += record(label("C", 4.0, 10), label("H.extra", 1.0, 4))
    for shells in (matrices.shells[0], matrices.shells[1]):
        out += record(ints([(2 + k, l, 1) for k, l in enumerate(shells) for _ in range(2 * l + 1)]))
    out += record(ints(*range(9)), np.zeros(3)) if version == 2 else b""
    out += record(ints([nao * ncell] * nao))
    out += b"".join(record(ints(np.arange(1, nao * ncell + 1))) for _ in range(nao))
    for matrix in [*spins, overlap]:
        out += b"".join(record(row.astype(kind)) for row in matrix)
    return out
