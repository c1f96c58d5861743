"""Densities of made-up Bloch functions against their sums, and the adjoint map back."""

from types import SimpleNamespace

import pytest
import torch

from deeph_zero.ks.periodic.grid import (
    BlochBlock,
    BlochGrid,
    KGroup,
    columns,
    density_rows,
    potential_matrix,
)

NAO, NK, POINTS = 3, 3, 8
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


def random(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def hermitian(seed):
    a = random(2, NK, NAO, NAO, seed=seed)
    return a + a.mH


@pytest.fixture(scope="module")
def ao():
    """Values and gradients at every k; the first k is like Γ: real."""
    values = random(NK, 4, NAO, POINTS, seed=1)
    values[0] = values[0].real.to(values.dtype)
    return values


@pytest.fixture(scope="module")
def grid(ao):
    """In two blocks of unlike size; the real k-point is a group of its own."""

    def block(b):
        points = slice(0, 5) if b == 0 else slice(5, POINTS)
        real = KGroup(torch.tensor([0]), ao[:1, ..., points].real.contiguous())
        rest = KGroup(torch.tensor([2, 1]), ao[[2, 1]][..., points].contiguous())
        return BlochBlock(points, (rest, real))

    made = SimpleNamespace(nao=NAO, nk=NK, ngrids=POINTS, n_blocks=2, block=block)
    assert isinstance(made, BlochGrid)
    return made


def written_out(ao, dm):
    """rho, its gradient and tau from their sums over pairs of AOs."""

    def pairs(left, right):
        return torch.einsum("k,kip,skij,kjp->sp", WEIGHTS + 0j, left, dm, right.conj()).real

    value = ao[:, 0]
    rows = [pairs(value, value)]
    rows += [pairs(ao[:, x], value) + pairs(value, ao[:, x]) for x in (1, 2, 3)]
    rows.append(0.5 * sum(pairs(ao[:, x], ao[:, x]) for x in (1, 2, 3)))
    return torch.stack(rows, 1)


def test_columns_bring_an_indefinite_matrix_back():
    dm = hermitian(2)
    dm[1, 2] = 0  # nothing at one k of one spin
    found = columns(dm)
    back = (found.c * found.sign.unsqueeze(-2)) @ found.c.mH
    torch.testing.assert_close(back, dm, rtol=0, atol=1e-13)
    assert found.sign.unique().tolist() == [-1.0, 0.0, 1.0]
    few = random(2, NK, NAO, 1, seed=3)
    assert columns(few @ few.mH).c.shape[-1] == 1


@pytest.mark.parametrize("nvar", [1, 4, 5])
def test_density_is_that_of_the_formula(nvar, grid, ao):
    dm = hermitian(4)
    wanted = written_out(ao, dm)[:, :nvar]
    torch.testing.assert_close(density_rows(grid, WEIGHTS, dm, nvar), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nvar", [1, 4, 5])
def test_matrices_are_the_adjoint(nvar, grid):
    dm = hermitian(5)
    rows = random(2, nvar, POINTS, seed=6, dtype=torch.float64)
    matrix = potential_matrix(grid, rows, torch.complex128)
    torch.testing.assert_close(matrix, matrix.mH)
    claimed = (WEIGHTS.reshape(-1, 1, 1) * (matrix * dm.mT).real).sum()
    wanted = (rows * density_rows(grid, WEIGHTS, dm, nvar)).sum()
    assert abs(float(wanted)) > 1.0
    assert float(claimed) == pytest.approx(float(wanted), rel=1e-12)
