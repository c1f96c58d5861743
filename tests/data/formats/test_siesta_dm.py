"""SIESTA's density matrix beside an HSX file: read, or refused."""

import numpy as np
import pytest
import torch

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.hsx import HSXSource
from deeph_zero.data.formats.protocol import read_record

from .conftest import CELLS
from .siesta_files import hsx, ints, record, siesta_matrix


def density_file(found, parts, *, nsc=(3, 3, 3)):
    """A .DM file: (factor of S) for each spin."""
    nao = sum(found.matrices.sizes)
    dense = list(siesta_matrix(found.matrices.overlap, found.matrices.shells))
    # SIESTA's own order of cells: the first axis runs fastest, 0, 1, -1
    axis = (0, 1, -1)
    cells = [(a, b, c) for c in axis for b in axis for a in axis]
    matrix = np.concatenate([dense[CELLS.index(cell)] for cell in cells], axis=1)
    out = record(ints(nao, len(parts), *nsc)) + record(ints([nao * 27] * nao))
    out += b"".join(record(ints(np.arange(1, nao * 27 + 1))) for _ in range(nao))
    return out + b"".join(record(factor * row) for factor in parts for row in matrix)


@pytest.mark.parametrize("spins", [1, 2])
def test_the_density_matrix_beside_is_read(tmp_path, crystal, spins, capsys):
    overlap = crystal.matrices.overlap
    share = 9.0 / float(overlap.values.square().sum())  # of S, for the electrons of the head
    parts = [share] if spins == 1 else [0.7 * share, 0.3 * share]
    ends = [lambda f: f] * spins
    path = tmp_path / "a.HSX"
    path.write_bytes(hsx(crystal, ends))
    whole = density_file(crystal, parts)
    (tmp_path / "a.DM").write_bytes(whole)
    density = read_record(HSXSource(path), 0).matrices.density
    assert density is not None
    dense = density.to_dense((1, 0, -1))
    wanted = torch.stack([part * overlap.to_dense((1, 0, -1)) for part in parts])
    torch.testing.assert_close(dense, wanted[0] if spins == 1 else wanted, atol=1e-12, rtol=0)
    for content, message in (
        (density_file(crystal, [2 * p for p in parts]), "density of 9 electrons, got 18.0000"),
        (density_file(crystal, [1.0] * (3 - spins)), f"and {spins} spin components"),
        (whole[:-20], "a.DM: expected P at byte"),
        (density_file(crystal, parts, nsc=(1, 1, 1)), "expected columns from 1 to 24, got 1 to"),
    ):
        (tmp_path / "a.DM").write_bytes(content)
        assert entry_point(["convert", str(path), str(tmp_path / "o.h5")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line
