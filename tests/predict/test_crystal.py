"""What a crystal's residual leaves out: a constant potential, the same for both spins."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from deeph_zero.ks.periodic.types import without_potential
from deeph_zero.predict.crystal import CrystalPrediction

WEIGHTS = torch.tensor([0.25, 0.75], dtype=torch.float64)


def hermitian(*shape, seed):
    x = torch.randn(
        *shape, 3, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed)
    )
    return 0.5 * (x + x.mH)


OVLP = torch.eye(3, dtype=torch.complex128) + 0.1 * hermitian(2, seed=0)


@pytest.mark.parametrize("nspin", [1, 2])
def test_a_constant_is_no_residual(nspin):
    change = hermitian(nspin, 2, seed=1)
    rest = without_potential(WEIGHTS, change, OVLP)
    torch.testing.assert_close(without_potential(WEIGHTS, change + 0.3 * OVLP, OVLP), rest)
    # what is left has no part along S
    along = (WEIGHTS[:, None, None] * (rest * OVLP.mT)).real.sum()
    assert abs(float(along)) < 1e-12
    fock = hermitian(nspin, 2, seed=2)
    data = SimpleNamespace(weights=WEIGHTS, ovlp=OVLP)
    given = SimpleNamespace(
        ks=SimpleNamespace(data=data),
        fock=fock + change + 0.3 * OVLP,
        built=SimpleNamespace(fock=fock),
    )
    measure: Any = CrystalPrediction.residual_mae
    assert measure.fget(given) == pytest.approx(float(rest.abs().mean()), rel=1e-12)
