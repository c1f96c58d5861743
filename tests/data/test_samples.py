"""Published sample files, where there is a folder of them: DEEPH_ZERO_SAMPLES names it."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from deeph_zero.data.formats.deeph import DeepHSource
from deeph_zero.data.formats.deeph_legacy import LegacySource
from deeph_zero.data.formats.proof import settled_order
from deeph_zero.data.formats.protocol import on_blocks, read_record

SAMPLES = Path(os.environ.get("DEEPH_ZERO_SAMPLES", "-"))
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no folder of sample files")


def test_one_calculation_in_both_layouts_of_deeph():
    new = read_record(DeepHSource(SAMPLES / "deeph_new" / "MoTe2"), 0)
    old = read_record(LegacySource(SAMPLES / "deeph_legacy" / "MoTe2"), 0)
    np.testing.assert_allclose(old.structure.coords, new.structure.coords, atol=1e-12)
    np.testing.assert_allclose(old.structure.lattice, new.structure.lattice, atol=1e-12)
    for name in ("fock", "overlap"):
        wanted = getattr(new.matrices, name)
        found = on_blocks(getattr(old.matrices, name), wanted)
        torch.testing.assert_close(found.values, wanted.values, rtol=0, atol=1e-14)
    assert settled_order(LegacySource(SAMPLES / "deeph_legacy"), 0)[0] == "openmx"


def test_water_in_two_orientations_has_wigners_matrices_between_them():
    one, two = (read_record(DeepHSource(SAMPLES / "deeph_new" / f"dft_equiv_{k}"), 0) for k in "01")
    a, b = (r.structure.coords - r.structure.coords.mean(0) for r in (one, two))
    u, _, vt = np.linalg.svd(b.T @ a)
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    np.testing.assert_allclose(a @ rotation.T, b, atol=1e-8)
    for name in ("fock", "overlap"):
        turned = getattr(one.matrices, name).rotated(one.matrices.shells, torch.tensor(rotation))
        wanted = getattr(two.matrices, name).to_dense()
        # the integrals were done on a real-space grid, which is not turned
        torch.testing.assert_close(turned.to_dense(), wanted, rtol=0, atol=2e-5)
        assert float((getattr(one.matrices, name).to_dense() - wanted).abs().max()) > 0.5
