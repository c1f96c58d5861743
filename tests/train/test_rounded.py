"""Fitted integrals in single precision: a slightly other operator, and only for training."""

import h5py
import numpy as np
import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.integrals.mole import build_mole
from deeph_zero.molecule import Molecule
from deeph_zero.prepared.molecule import Means, kohn_sham
from deeph_zero.settings.config import FitConfig, MethodConfig
from deeph_zero.train.fit import run_fit
from deeph_zero.train.store.cache import heavy_bytes

CONFIG = MethodConfig(xc="pbe0", grid_level=0)
PBE0 = CONFIG.as_method()
SINGLE = torch.float32


def water(shift=0.0):
    coords = np.array([[0, 0.1, 0.2], [0.1, 1.43 + shift, 1.1], [0.2, -1.4, 1.15]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz")


@pytest.fixture(scope="module")
def layers():
    mol = build_mole(water(), basis=PBE0.basis)
    return [
        kohn_sham(water(), PBE0, Means(ao_memory_mb=0.0, jk_dtype=dtype), mol=mol)
        for dtype in (torch.float64, SINGLE)
    ]


def test_error_of_energy_and_fock(layers):
    """Rounding of every integral by 2^-24 changes J's energy by less than 2^-23 of itself."""
    exact, rounded = layers
    dm = exact.density(exact.build(exact.data.dm_guess).fock)
    one, other = exact.build(dm), rounded.build(dm)
    bound = 2.0**-23 * float(one.parts["e_coul"])
    assert 0 < abs(float(one.energy - other.energy)) < bound
    vj = exact.data.coulomb.coulomb(dm)
    assert 0 < float((one.fock - other.fock).abs().max()) < 2.0**-23 * float(vj.abs().max())
    result = [layer.scf(dm, conv_tol=1e-11) for layer in layers]
    assert abs(result[0].energy - result[1].energy) < bound


def test_fock_is_still_the_gradient(layers):
    """Of its own energy, far below the rounding of the integrals."""
    rounded = layers[1]
    dm = rounded.density(rounded.build(rounded.data.dm_guess).fock)
    step = torch.randn(dm.shape, generator=torch.Generator().manual_seed(2), dtype=dm.dtype)
    step = 1e-4 * (step + step.mT)
    energy = [float(rounded.build(dm + x * step).energy) for x in (1, -1)]
    slope = float((rounded.build(dm).fock * step).sum())
    assert abs(slope) > 1e-4
    assert (energy[0] - energy[1]) / 2 == pytest.approx(slope, rel=1e-8)


def test_unpacked_form_is_not_kept(layers):
    exact, rounded = layers
    for layer in layers:
        layer.build(layer.data.dm_guess)
    (_, operator), (_, whole) = rounded.data.exchange[0], exact.data.exchange[0]
    assert operator.cderi.nbytes * 2 == whole.cderi.nbytes
    assert operator._full is None
    assert whole._full is not None
    assert heavy_bytes(rounded) < heavy_bytes(exact) / 3


def test_certificates_use_double_precision(tmp_path):
    section = CONFIG.model_copy(update={"basis": "sto-3g"})
    config = FitConfig(method=section, epochs=2, jk_dtype="float32")
    method = config.solved
    told = run_fit(
        config, [water()], [], tmp_path, resume=False, reporter=SilentReporter(), command="fit"
    )
    with h5py.File(tmp_path / "predictions.h5") as file:
        dm = torch.from_numpy(file["0000/density"][()])
    exact = kohn_sham(water(), method).build(dm).energy
    rounded = kohn_sham(water(), method, Means(jk_dtype=SINGLE)).build(dm).energy
    energy = told["structures"][0]["energy"]
    assert energy == pytest.approx(float(exact), abs=1e-11)
    assert abs(energy - float(rounded)) > 1e-10


def test_exact_integrals_are_not_rounded():
    with pytest.raises(InputError, match="float64 with --no-density-fit"):
        FitConfig.parse({"jk_dtype": "float32", "method": {"density_fit": False}})
