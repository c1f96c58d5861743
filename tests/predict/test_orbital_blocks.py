"""Sizes of a matrix between kinds of orbitals, against NumPy."""

import numpy as np
import pytest
import torch

from deeph_zero.predict.orbital_blocks import BLOCKS, orbital_block_rms, orbital_blocks

NAO = 5


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(*lead):
    m = some(*lead, NAO, NAO)
    return m + m.mT


def parts(delta, coeff, occ):
    """Elements of each block, spins together."""
    found = {name: [] for name in BLOCKS}
    spins = [x.reshape(-1, *x.shape[len(x.shape) - n :]).numpy() for x, n in
             ((delta, 2), (coeff, 2), (occ, 1))]  # fmt: skip
    for d, c, o in zip(*spins, strict=True):
        mixed, n = c.T @ d @ c, int((o > 0).sum())
        for name, block in zip(BLOCKS, (mixed[:n, :n], mixed[:n, n:], mixed[n:, n:]), strict=True):
            found[name].append(block.ravel())
    return {name: np.concatenate(values) for name, values in found.items()}


@pytest.mark.parametrize(
    "occ",
    [[2.0, 2.0, 0, 0, 0], [2.0, 0.5, 0, 0, 0], [[1.0, 1, 1, 0, 0], [1.0, 0, 0, 0, 0]]],
    ids=["closed", "partly", "open"],
)
def test_blocks_are_those_of_numpy(occ):
    filled = torch.tensor(occ, dtype=torch.float64)
    lead = filled.shape[:-1]
    delta, coeff = matrix(*lead), some(*lead, NAO, NAO, seed=1)
    expected = parts(delta, coeff, filled)
    mean, rms = orbital_blocks(delta, coeff, filled), orbital_block_rms(delta, coeff, filled)
    assert list(mean) == list(rms) == list(BLOCKS)
    for name, values in expected.items():
        assert mean[name] == pytest.approx(np.abs(values).mean())
        assert rms[name] == pytest.approx(np.sqrt((values**2).mean()))


@pytest.mark.parametrize(("occ", "there"), [([2.0] * NAO, "occ-occ"), ([0.0] * NAO, "virt-virt")])
def test_empty_blocks_have_no_size(occ, there):
    for found in (orbital_blocks, orbital_block_rms):
        sizes = found(matrix(), some(NAO, NAO, seed=1), torch.tensor(occ))
        assert {name for name, value in sizes.items() if value is not None} == {there}


def test_fewer_orbitals_than_functions():
    """Where functions are nearly dependent some orbitals are left out."""
    coeff, occ = some(NAO, 3, seed=1), torch.tensor([2.0, 0.0, 0.0])
    delta = matrix()
    expected = parts(delta, coeff, occ)
    found = orbital_block_rms(delta, coeff, occ)
    assert found["virt-virt"] == pytest.approx(np.sqrt((expected["virt-virt"] ** 2).mean()))


def test_the_rms_does_not_see_which_degenerate_orbitals_were_taken():
    delta, coeff = matrix(), some(NAO, NAO, seed=1)
    occ = torch.tensor([2.0, 2.0, 0, 0, 0])
    q, _ = torch.linalg.qr(some(3, 3, seed=2))
    turned = torch.cat([coeff[:, :2], coeff[:, 2:] @ q], 1)
    one, other = (orbital_block_rms(delta, c, occ) for c in (coeff, turned))
    assert one == pytest.approx(other)
    means = [orbital_blocks(delta, c, occ)["virt-virt"] for c in (coeff, turned)]
    assert means[0] != pytest.approx(means[1])
