"""One crystal predicted: the network's H, its density, and what one Fock build says of them."""

import dataclasses
import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.periodic.folded_blocks import RealSpace
from deeph_zero.kohnsham.crystal import CrystalKohnSham
from deeph_zero.kohnsham.crystal_result import Bands, CrystalResult, KPoints
from deeph_zero.kohnsham.k_path import k_path
from deeph_zero.ks.periodic.certificate import CrystalCertificate, crystal_certificate
from deeph_zero.ks.periodic.layer import Bands as Levels
from deeph_zero.ks.periodic.layer import CrystalBuild
from deeph_zero.ks.periodic.types import BlochMatrix, without_potential
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.prepared.crystal import PreparedCrystal
from deeph_zero.types import Brief


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CrystalPrediction(Brief):
    """What a model says of one crystal; energies per cell, matrices at the layer's k-points.

    Attributes:
        molecule: The structure.
        method: What is solved.
        prepared: Its layer and the matrix H₀.
        correction: Blocks of the network's ΔH = H - H₀, Eh.
        fock: The network's H, Eh.
        dm: P(H).
        built: The Fock build at P(H); None without one.
        certificate: What it says; None where none was asked for.
        refined: The SCF that began at P(H), if asked for.
        forces: Eh/bohr, [natm, 3], of the refined energy; None if not asked for.
        intervals: Calibrated ones of converged values, see :mod:`.crystal_intervals`; None without
            a calibrated model or a coupled certificate.
        out_of_distribution: Why those intervals guarantee nothing here; empty if nothing says so.
    """

    molecule: Molecule
    method: Method
    prepared: PreparedCrystal
    correction: BlockMatrix
    fock: BlochMatrix
    dm: BlochMatrix
    built: CrystalBuild | None = None
    certificate: CrystalCertificate | None = None
    refined: CrystalResult | None = None
    forces: Tensor | None = None
    intervals: dict[str, list[float] | None] | None = None
    out_of_distribution: tuple[str, ...] = ()

    @property
    def ks(self) -> CrystalKohnSham:
        """The layer; it counts its Fock builds."""
        return self.prepared.ks

    @property
    def coarse_builds(self) -> int:
        """Builds on the coarse mesh, of the certificate and the refinement."""
        spent = (part.coarse_builds for part in (self.certificate, self.refined) if part)
        return sum(spent)

    @property
    def energy(self) -> float | None:
        """E[P(H)], Eh per cell; None without a Fock build."""
        return None if self.built is None else float(self.built.energy)

    @property
    def free_energy(self) -> float | None:
        """E - T S at P(H), Eh per cell; the energy without smearing."""
        if self.energy is None:
            return None
        return self.energy - self.ks.bands(self.fock).filling.entropy_energy

    @property
    def fock_rebuilt(self) -> BlochMatrix | None:
        """F[P(H)], Eh; None without a build."""
        return None if self.built is None else self.built.fock

    @property
    def residual_mae(self) -> float | None:
        """Mean absolute element of H - F[P(H)] - μ S over the k-points, Eh; None without a build.

        The average potential μ of a crystal is a convention.
        """
        if self.built is None:
            return None
        data, change = self.ks.data, self.fock - self.built.fock
        return float(without_potential(data.weights, change, data.ovlp).abs().mean())

    @cached_property
    def levels(self) -> Levels:
        """Levels and occupations: of the rebuilt matrix where there is one, else of H."""
        return self.ks.bands(self.fock if self.built is None else self.built.fock)

    @property
    def fermi(self) -> tuple[float, ...]:
        """Fermi level of each spin, Eh: of the refined state, else as :attr:`levels`."""
        return self.levels.filling.fermi if self.refined is None else self.refined.fermi

    def real_space(self) -> RealSpace:
        """H and S as blocks that give them at any k-point; F where it was refined.

        Returns:
            The blocks.

        Raises:
            ComputationError: If the functions reach over too many cells.
        """
        if self.refined is not None:
            return self.refined.real_space()
        base = self.ks.real_space(self.prepared.potential)
        fock = base.fock.plus(self.correction)
        nothing = fock.with_values(torch.zeros_like(fock.values))
        if nothing.values.ndim == 2:
            nothing = nothing.with_values(nothing.values[0])
        overlap = base.overlap.plus(nothing)
        return RealSpace(fock=fock, overlap=overlap, counts=base.counts)

    def hamiltonian(self, kpts: KPoints) -> BlochMatrix:
        """H at any k-points, exact; F where it was refined.

        Args:
            kpts: Fractions of the reciprocal vectors, [nk, 3].

        Returns:
            Complex, [nspin, nk, nao, nao], Eh.

        Raises:
            InputError: If ``kpts`` has another shape.
        """
        if self.refined is not None:
            return self.refined.hamiltonian(kpts)
        return self.prepared.hamiltonian_at(kpts, self.correction)

    def bands(self, path: str | None = None, points: int = 60) -> Bands:
        """Levels of :meth:`hamiltonian` along a path through the Brillouin zone.

        Args:
            path: Names of special points, for example "GMKG"; None: ASE's path for the lattice.
            points: k-points.

        Returns:
            The bands.

        Raises:
            InputError: If the path names a point that the zone does not have.
        """
        line = k_path(self.ks.info.lattice, self.ks.info.pbc, path, points)
        energies = self.ks.levels_of(self.hamiltonian(line.kpts), line.kpts)
        fermi = self.fermi if self.refined is not None else self.ks.bands(self.fock).filling.fermi
        return Bands(path=line, energies=energies, fermi=fermi)


@torch.no_grad()
def predict_crystal(
    network: FockNetwork,
    prepared: PreparedCrystal,
    molecule: Molecule,
    method: Method,
    *,
    refine: float | None = None,
    certificate: bool = True,
    coupled: bool = True,
    forces: bool = False,
) -> CrystalPrediction:
    """Apply a network to a prepared crystal.

    Args:
        network: In evaluation mode.
        prepared: The crystal.
        molecule: The structure, for the record.
        method: What is solved.
        refine: Finish with SCF to this norm of the orbital gradient, Eh.
        certificate: Spend one Fock build on energy, gradient and error estimate.
        coupled: Spend a response build on a better error estimate.
        forces: Nuclear forces of the refined energy.

    Returns:
        The prediction.

    Raises:
        InputError: If an element or the cutoff is not the network's, or PySCF has no forces.
        ComputationError: If the network's output is not finite, or forces were asked for and the
            refinement did not converge.
    """
    (correction,) = network(prepared.inputs)
    if not bool(torch.isfinite(correction.values).all()):
        raise ComputationError(
            "expected finite Fock matrix elements from the network, got NaN or infinity; the "
            "crystal is far outside its training data: train it on such structures"
        )
    ks, fock = prepared.ks, prepared.hamiltonian(correction)
    dm = ks.density(fock)
    found = CrystalPrediction(molecule, method, prepared, correction, fock, dm)
    if not (certificate or refine is not None):
        return found
    built = ks.build(dm)
    if not math.isfinite(float(built.energy)):
        raise ComputationError(
            f"expected a finite energy, got {float(built.energy)}; check the geometry"
        )
    more: dict[str, Any] = {"built": built}
    if certificate:
        more["certificate"] = crystal_certificate(ks, fock, built, coupled=coupled)
    if refine is not None:
        done = ks.scf(dm, conv_tol=refine, conv_tol_grad=refine)
        more["refined"] = done
        if forces and not done.converged:
            raise ComputationError(
                f"expected a converged density for forces, got an orbital gradient of "
                f"{done.gradient_norm:.1e} Eh after {done.iterations} cycles; use smearing"
            )
        more["forces"] = ks.forces(done) if forces else None
    return dataclasses.replace(found, **more)
