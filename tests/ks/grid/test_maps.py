"""Density variables and their adjoint on made-up AO values: the formulas, written out."""

import pytest
import torch

from deeph_zero.ks.grid import maps
from deeph_zero.ks.grid.maps import density_features, orbital_features, panels, potential_matrix
from deeph_zero.ks.protocol import NVAR, AOBlock

KINDS = ("LDA", "GGA", "MGGA")
NAO, POINTS = 5, 7


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block(kind, nao=NAO, index=None):
    ncomp = 1 if kind == "LDA" else 4
    values = random(ncomp, POINTS, nao, seed=nao)
    return AOBlock(ao=values, weights=random(POINTS, seed=9).abs(), index=index)


def symmetric(nao=NAO, seed=3):
    a = random(2, nao, nao, seed=seed)
    return a + a.mT


def written_out(one, dm):
    """rho, its gradient and tau of one matrix from their sums over pairs of AOs."""
    ao = one.ao
    rows = [torch.einsum("mn,pm,pn->p", dm, ao[0], ao[0])]
    rows += [2 * torch.einsum("mn,pm,pn->p", dm, ao[0], x) for x in ao[1:]]
    if len(ao) == 4:
        rows.append(0.5 * torch.einsum("mn,xpm,xpn->p", dm, ao[1:], ao[1:]))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_variables_are_those_of_the_formula(kind):
    one, dm = block(kind), symmetric()
    wanted = torch.stack([written_out(one, spin)[: NVAR[kind]] for spin in dm])
    torch.testing.assert_close(density_features(one, dm, kind), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_orbitals_give_the_variables_of_their_density(kind):
    one, c = block(kind), random(NAO, 3, seed=5)
    wanted = density_features(one, c @ c.mT, kind)
    torch.testing.assert_close(orbital_features(one, c, kind), wanted)


@pytest.mark.parametrize("nao", [NAO, 170])
@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_is_the_adjoint(kind, nao):
    """Also where there are so many AOs that only one triangle is multiplied."""
    assert (nao > maps._WHOLE) == (nao != NAO)
    one, dm = block(kind, nao), symmetric(nao)
    potential = random(2, NVAR[kind], POINTS, seed=7)
    matrix = potential_matrix(one, potential, kind)
    torch.testing.assert_close(matrix, matrix.mT)
    claimed = (matrix * dm).sum((-2, -1))
    wanted = (potential * density_features(one, dm, kind)).sum((-2, -1))
    assert float(wanted.abs().min()) > 0.1
    torch.testing.assert_close(claimed, wanted)


@pytest.mark.parametrize("size", [1, 47, 48, 73, 200])
def test_panels_cover_every_column_once(size):
    found = panels(size)
    assert [k for start, stop in found for k in range(start, stop)] == list(range(size))
    assert max(stop - start for start, stop in found) < 1.5 * maps._PANEL + 1


def test_a_block_takes_its_own_orbitals():
    index = torch.tensor([3, 0, 4])
    dm = symmetric()
    local = maps.restrict(dm, block("LDA", 3, index))
    torch.testing.assert_close(local, dm[:, index][:, :, index])
    assert maps.restrict(dm, block("LDA")) is dm
