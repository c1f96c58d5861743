"""The same code on a CUDA device gives the CPU's numbers."""

import numpy as np
import pytest
import torch
from pyscf import gto

from deeph_zero.host.reporting import SilentReporter
from deeph_zero.kohnsham import KohnSham, KohnShamBatch
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.train.fit import run_fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("xc", ["pbe", "pbe0", "tpss", "hse06", "hf"])
@pytest.mark.parametrize("unrestricted", [False, True])
def test_energy_fock_and_response_equal_the_cpus(water, xc, unrestricted):
    layers = [
        KohnSham.from_pyscf(water, xc=xc, grid_level=1, unrestricted=unrestricted, device=d)
        for d in ("cpu", "cuda")
    ]
    results = []
    for ks in layers:
        dm = ks.data.dm_guess
        built = ks.build(dm)
        results.append((built.energy.cpu(), built.fock.cpu(), ks.response(dm, dm).cpu()))
    for cpu, cuda in zip(*results, strict=True):
        torch.testing.assert_close(cuda, cpu, rtol=1e-12, atol=1e-10)


def test_scf_and_gradients_run_on_the_device(water):
    ks = KohnSham.from_pyscf(water, grid_level=1, device="cuda")
    reference = KohnSham.from_pyscf(water, grid_level=1)
    result = ks.scf()
    assert result.converged
    assert result.energy == pytest.approx(reference.scf().energy, abs=1e-9)
    fock = result.fock.clone().requires_grad_()
    energy, rebuilt = ks(ks.density(fock))
    (energy + rebuilt.square().sum()).backward()
    assert fock.grad is not None
    assert fock.grad.device.type == "cuda"
    assert torch.isfinite(fock.grad).all()


def test_fit_on_the_device(tmp_path):
    coords = np.array([[0.0, 0.0, 0.2], [0.0, 1.43, 1.1], [0.1, -1.4, 1.15]])
    molecule = Molecule(numbers=np.array([8, 1, 1]), coords=coords)
    config = FitConfig.parse({"runtime": {"device": "cuda"}, "method": {"grid_level": 1}})
    summary = run_fit(
        config, [molecule], [], tmp_path, resume=False, reporter=SilentReporter(), command=""
    )
    assert summary["converged"]
    assert summary["device"].startswith("cuda")


@pytest.mark.parametrize("xc", ["pbe", "pbe0", "tpss"])
def test_a_padded_batch_on_the_device_equals_the_cpu_one_by_one(water, xc):
    hydrogen = gto.M(atom="H 0 0 0; H 0 .1 .74", basis="def2-svp", verbose=0)
    methyl = gto.M(
        atom="C 0 0 .02; H 0 1.08 0; H .93 -.54 0; H -.93 -.54 .01",
        basis="def2-svp",
        spin=1,
        verbose=0,
    )
    moles = [water, hydrogen, methyl] if xc != "tpss" else [water, methyl]
    batch = KohnShamBatch.from_pyscf(moles, xc=xc, grid_level=0, device="cuda")
    assert batch.strategy == "padded"
    singles = [KohnSham.from_pyscf(mol, xc=xc, grid_level=0) for mol in moles]
    built = batch.build([one.data.dm_guess for one in batch.layers])
    for one, found in zip(singles, built, strict=True):
        wanted = one.build(one.data.dm_guess)
        torch.testing.assert_close(found.fock.cpu(), wanted.fock, rtol=1e-12, atol=1e-10)
    for one, found in zip(singles, batch.scf(), strict=True):
        assert found.converged
        assert found.energy == pytest.approx(one.scf().energy, abs=1e-9)
