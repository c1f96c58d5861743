"""The ten-second self-check of ``doctor``: does this installation compute the right numbers."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from deeph_zero.errors import argument

WATER = "O 0 0 0.1; H 0 0.76 0.58; H 0.05 -0.74 0.61"
"""Angstrom; no symmetry, so that no number is right by accident."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One number and the limit it has to keep.

    Attributes:
        name: What was checked.
        value: Deviation found (None when the check could not run).
        limit: Largest deviation allowed.
        seconds: Time it took.
        error: Why it could not run, "" if it did.
        cure: What to do where it did not pass.
    """

    name: str
    value: float | None
    limit: float
    seconds: float
    error: str = ""
    cure: str = "install the versions in constraints.txt"

    @property
    def passed(self) -> bool:
        """Whether it ran and kept the limit."""
        return self.value is not None and bool(self.value <= self.limit)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {"passed": self.passed}


def run_checks(device: str = "cpu") -> list[Check]:
    """Run every check; one that raises is reported and does not stop the others.

    Args:
        device: Where the command computes; another one than the processor is compared with it.

    Returns:
        What was found.
    """
    checks = [
        _timed("Fock matrix of water equals PySCF's (Eh)", 1e-9, fock_deviation),
        _timed(
            "Fock matrix is the derivative of the energy (relative)", 1e-6, derivative_deviation
        ),
        _timed("network output turns with the molecule (Eh)", 1e-10, rotation_deviation),
    ]
    if device != "cpu":
        name = f"builds on {device} are the processor's, alone and in a batch (Eh)"
        builds = _timed(name, 1e-9, lambda: device_deviation(device))
        name = f"SCF of a batch on {device} is the processor's (Eh)"
        scfs = _timed(name, 1e-8, lambda: scf_deviation(device))
        # the versions are not to blame where the processor computes the right numbers
        cure = (
            f"{argument('device', 'cpu')} computes on the processor; for the card see that its "
            "driver is new enough for this torch (nvidia-smi shows it)"
        )
        checks += [dataclasses.replace(one, cure=cure) for one in (builds, scfs)]
    return checks


def _timed(name: str, limit: float, function: Callable[[], float]) -> Check:
    start = time.perf_counter()
    try:
        # NumPy's numbers are not Python's: a comparison of one is no bool, JSON has neither
        value, error = float(function()), ""
    except Exception as problem:  # a broken installation is what this command is for
        first = (str(problem).splitlines() or [""])[0]
        value, error = None, f"{type(problem).__name__}: {first[:160]}"
    return Check(name, value, limit, time.perf_counter() - start, error)


def _water() -> Any:
    from pyscf import gto

    return gto.M(atom=WATER, basis="def2-svp", verbose=0)


def fock_deviation() -> float:
    """Largest difference from PySCF's Fock matrix, PBE0/def2-SVP, at the starting density.

    Returns:
        max |F - F(PySCF)|, Eh, or |E - E(PySCF)| if that is larger.
    """
    import torch
    from pyscf import dft

    from deeph_zero.kohnsham import KohnSham

    mol = _water()
    mf = dft.RKS(mol, xc="pbe0").density_fit()
    mf.grids.level = 1
    dm = mf.get_init_guess(mol, "minao")
    expected = mf.get_fock(dm=dm)
    energy, fock = KohnSham.from_pyscf(mf)(torch.from_numpy(np.asarray(dm)))
    in_energy = abs(float(energy) - float(mf.energy_tot(dm=dm)))
    return max(float(np.abs(fock.numpy() - np.asarray(expected)).max()), in_energy)


def derivative_deviation() -> float:
    """Central difference of the energy along a random direction against tr(F D).

    Returns:
        Relative difference.
    """
    import torch

    from deeph_zero.kohnsham import KohnSham

    ks = KohnSham.from_pyscf(_water(), xc="pbe", grid_level=1)
    dm = ks.data.dm_guess
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(dm.shape, generator=generator, dtype=dm.dtype)
    direction = 0.5 * (direction + direction.mT)
    step = 1e-4
    plus, minus = (ks(dm + sign * step * direction)[0] for sign in (1.0, -1.0))
    analytic = float((ks(dm)[1] * direction).sum())
    return abs(float(plus - minus) / (2 * step) - analytic) / abs(analytic)


def _layers(device: str) -> list[Any]:
    """A closed and an open shell."""
    from pyscf import gto

    from deeph_zero.kohnsham import KohnSham

    moles = [gto.M(atom=WATER, basis="sto-3g", charge=n, spin=n, verbose=0) for n in (0, 1)]
    return [KohnSham.from_pyscf(mol, xc="pbe", grid_level=0, device=device) for mol in moles]


def device_deviation(device: str) -> float:
    """Largest difference of energies and Fock matrices from the processor's.

    Args:
        device: Where they are made once more.

    Returns:
        Eh.
    """
    from deeph_zero.kohnsham.batch import KohnShamBatch

    here, there = _layers("cpu"), _layers(device)
    wanted = [one.build(one.data.dm_guess) for one in here]
    dms = [one.data.dm_guess for one in there]
    alone = [one.build(dm) for one, dm in zip(there, dms, strict=True)]
    off = 0.0
    for found in (alone, KohnShamBatch(there).build(dms)):
        for a, b in zip(found, wanted, strict=True):
            fock = float((a.fock.cpu() - b.fock).abs().max())
            off = max(off, fock, abs(float(a.energy) - float(b.energy)))
    return off


def scf_deviation(device: str) -> float:
    """Largest difference of converged energies from the processor's.

    Args:
        device: Where they are found once more.

    Returns:
        Eh.
    """
    from deeph_zero.kohnsham.batch import KohnShamBatch

    wanted = [one.scf().energy for one in _layers("cpu")]
    found = [one.energy for one in KohnShamBatch(_layers(device)).scf()]
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True))


def kernels(device: str) -> dict[str, int] | None:
    """What the device was asked for by one Fock build of a batch, as torch's profiler counts it.

    Args:
        device: A CUDA device.

    Returns:
        Kernels launched, copies and waits; None where torch's profiler sees no device.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile, supported_activities

    from deeph_zero.kohnsham.batch import KohnShamBatch

    if ProfilerActivity.CUDA not in supported_activities():
        return None
    batch = KohnShamBatch(_layers(device))
    dms = [one.data.dm_guess for one in batch.layers]
    for _ in range(3):  # by then its functional is one launch
        batch.build(dms)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        batch.build(dms)
    names = [event.name for event in found.events() or []]
    launched = ("cudaLaunchKernel", "cudaGraphLaunch")
    return {
        "launches": sum(name.startswith(launched) for name in names),
        "copies": sum(name.startswith("cudaMemcpy") for name in names),
        "waits": sum(name == "cudaStreamSynchronize" for name in names),
    }


def rotation_deviation() -> float:
    """Rotate and mirror water; the network's correction must keep its spectrum.

    The inputs are Hartree-Fock matrices, which need no grid: what is left is the network's own
    deviation. Eigenvalues in the Löwdin basis are compared because they do not turn.

    Returns:
        Largest difference, Eh.
    """
    import torch

    from deeph_zero.nn.network import FockNetwork
    from deeph_zero.nn.spec import default_spec
    from deeph_zero.prepared.molecule import basis_layout

    mol = _water()
    spec = default_spec(basis_layout([mol]), "tiny")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = FockNetwork(spec).double().eval()
        for weight in network.parameters():
            # the untrained network predicts zero; random weights make it say something
            torch.nn.init.normal_(weight, std=0.1)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turn *= -np.sign(np.linalg.det(turn))  # improper: a rotation and a mirror
    spectra = [_spectrum(network, m) for m in (mol, _turned(mol, turn))]
    if float(spectra[0].abs().max()) < 1e-6:
        raise AssertionError("the network's output is zero, so the check says nothing")
    return float((spectra[0] - spectra[1]).abs().max())


def _turned(mol: Any, turn: np.ndarray) -> Any:
    return mol.copy().set_geom_(mol.atom_coords() @ turn.T, unit="Bohr")


def _spectrum(network: Any, mol: Any) -> Any:
    """Eigenvalues of the network's correction in the Löwdin basis, Eh."""
    import torch
    from pyscf import scf

    from deeph_zero.nn.inputs import PhysicsMatrices, prepare_inputs

    mf = scf.RHF(mol)
    ovlp, hcore = mf.get_ovlp(), mf.get_hcore()
    dm = np.asarray(mf.get_init_guess(mol, "minao"))
    fock = mf.get_fock(dm=dm)
    mo_energy, mo_coeff = mf.eig(fock, ovlp)
    new = mf.make_rdm1(mo_coeff, mf.get_occ(mo_energy, mo_coeff))
    matrices = PhysicsMatrices(
        ovlp=torch.from_numpy(np.array(ovlp)),
        hcore=torch.from_numpy(np.array(hcore)),
        dm0=torch.from_numpy(dm),
        fock0=torch.from_numpy(np.array(fock)),
        ddm0=torch.from_numpy(np.asarray(new) - dm),
    )
    inputs = prepare_inputs(
        network.spec.layout,
        mol.atom_charges(),
        mol.atom_coords(),
        0,
        0,
        matrices,
        cutoff=network.spec.cutoff,
        dtype=torch.float64,
    )
    with torch.no_grad():
        correction = network(inputs)[0].to_dense()
    values, vectors = torch.linalg.eigh(matrices.ovlp)
    root = (vectors / values.sqrt()) @ vectors.mT
    return torch.linalg.eigvalsh(root @ correction @ root)
