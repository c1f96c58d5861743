"""One prediction: what follows from a network's Fock matrix, with and without a Fock build."""

import dataclasses
import functools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.integrals.grids import AOGrid
from deeph_zero.integrals.info import KSInfo
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.certificate import Certificate
from deeph_zero.ks.populations import Populations, populations, square_root
from deeph_zero.ks.response.quadratic import semicanonical
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.molecule import Molecule
from deeph_zero.predict.derivatives import Response
from deeph_zero.predict.orbital_blocks import orbital_block_rms
from deeph_zero.types import AOMatrix, Brief, OrbitalEnergies

NEAR_ENOUGH = 0.2
"""Largest commutator of a prediction, as a part of that of the superposed atoms, from which the SCF
is worth starting: the first cycle leaves 3 % of the latter, of a wild prediction much more.
Measured on ethanol pushed by 0 to 0.3 Å, on chains longer than any trained on and on water dimers:
up to 0.14 the prediction took at most as many cycles, from 0.24 on as many or (mostly) more.
"""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Prediction(Brief):
    """What a model says about one molecule. AO order is PySCF's; atomic units except the dipole.

    Matrices are [nao, nao], or [2, nao, nao] (alpha, beta) when unrestricted, float64 on the CPU.

    Attributes:
        molecule: The structure.
        info: Basis, functional, fitting and grid, as resolved.
        fock: H, the network's Fock matrix, Eh.
        overlap: S, [nao, nao].
        dm: P̂, the density matrix of ``fock``.
        fock_rebuilt: H̃ = F[P̂], Eh; None without a Fock build.
        mo_energy: Orbital energies of H̃ (of H without a Fock build), Eh.
        mo_occ: Their occupations.
        energy: E[P̂], Eh; None without a Fock build.
        certificate: How far P̂ is from self-consistency; None if not asked for.
        residual_mae: Mean absolute element of H - H̃, Eh; None without a Fock build.
        dipole: About the nuclear-charge centre, debye, [3].
        n_electrons: Density integrated on the grid; None without a Fock build.
        spin_square: ⟨S²⟩; None for a closed shell.
        degenerate: The frontier level is degenerate and was filled evenly.
        refined: The converged SCF that started from P̂; None if not asked for.
        fock_builds: All builds spent, the one of the input matrices included.
        coarse_builds: Beside them, builds on the coarse grid.
        refined_dipole: Dipole moment of the refined density; of P̂ without refinement.
        refined_spin_square: ⟨S²⟩ of the refined density; None without refinement.
        standard_start: The refinement began at the superposed atoms, because P̂ was worse.
        standard_iterations: SCF cycles from the superposed atoms to the same tolerance; None if no
            comparison was asked for.
        intervals: Calibrated intervals of the converged values, see :mod:`.intervals`; None
            without a calibrated model or a coupled certificate.
        out_of_distribution: Why those intervals guarantee nothing here; empty if nothing says so.
        forces: -dE/dR of the refined energy, Eh/bohr, [natm, 3]; None if not asked for.
        residual_blocks: Root mean square of H - H̃ between orbitals of H, by block ("occ-occ",
            "occ-virt", "virt-virt"; None for an empty block), Eh. Only occ-virt moves the density.
        instability: Eigenvalue of the RKS -> UKS Hessian, Eh, where an open shell lies below this
            closed one, see :mod:`deeph_zero.ks.response.open_shell`; looked for after a refinement.
        response: Polarisability, dipole derivatives and, of a refined state, the infrared spectrum;
            None if not asked for.
        base: H₀, what the network corrected, Eh.
        doubts: Signs that ``fock`` fills other orbitals than ``base`` does, see :mod:`.doubts`.
    """

    molecule: Molecule
    info: KSInfo
    fock: AOMatrix
    overlap: Float[Tensor, "nao nao"]
    dm: AOMatrix
    fock_rebuilt: AOMatrix | None
    mo_energy: OrbitalEnergies
    mo_occ: OrbitalEnergies
    energy: float | None
    certificate: Certificate | None
    residual_mae: float | None
    dipole: np.ndarray
    n_electrons: float | None
    spin_square: float | None
    degenerate: bool
    refined: SCFResult | None
    fock_builds: int
    refined_dipole: np.ndarray
    standard_start: bool = False
    standard_iterations: int | None = None
    intervals: dict[str, Any] | None = None
    out_of_distribution: tuple[str, ...] = ()
    forces: np.ndarray | None = None
    residual_blocks: dict[str, float | None] | None = None
    instability: float | None = None
    coarse_builds: int = 0
    response: Response | None = None
    base: AOMatrix | None = None
    doubts: tuple[str, ...] = ()
    refined_spin_square: float | None = None

    def populations(self, *, refined: bool = True) -> Populations:
        """Atomic charges and bond orders.

        Args:
            refined: Take the refined density if there is one; otherwise P̂.

        Returns:
            Mulliken's, Löwdin's and Mayer's.
        """
        own, final = self._populations
        return final if refined else own

    @functools.cached_property
    def _populations(self) -> tuple[Populations, Populations]:
        """Populations of P̂ and of the refined density; records and files use both several times."""
        root = square_root(self.overlap)
        facts = self.overlap, self.info.ao_atoms, self.info.atom_charges, root
        final = None if self.refined is None else self.refined.dm
        own, refined = (
            None if dm is None else populations(dm.reshape(-1, *dm.shape[-2:]), *facts)
            for dm in (self.dm, final)
        )
        assert own is not None
        return own, own if refined is None else refined


def builds_once(ks: KohnSham) -> None:
    """Tell a layer that one Fock build is made on its grid: AO values are not kept.

    Error estimates go over the coarse grid; where there is none, values are kept as ever.

    Args:
        ks: Kohn-Sham layer of the molecule.
    """
    grid = ks.data.grid
    if isinstance(grid, AOGrid) and ks.layer.coarse is not None:
        grid.keep_nothing()


def refine(
    ks: KohnSham, dm: Tensor, first_build: FockBuild | None = None, *, tol: float
) -> SCFResult:
    """Finish a density with SCF.

    Args:
        ks: Kohn-Sham layer of the molecule.
        dm: Where to start.
        first_build: The build at ``dm``, where the certificate already paid for it.
        tol: Norm of the orbital gradient to reach, Eh. The energy's error is of second order in
            it, so that nothing stricter is asked of the energy's last change than ``tol`` itself.

    Returns:
        The last iterate, on the CPU; its ``fock_builds`` are those spent here.

    Raises:
        InputError: If ``tol`` is not positive.
    """
    if not tol > 0:
        raise InputError(f"expected a positive tolerance to refine to, got {tol}; use e.g. 1e-5")
    result = ks.scf(dm0=dm, first_build=first_build, conv_tol=tol, conv_tol_grad=tol, hint=False)
    matrices = ("fock", "dm", "mo_energy", "mo_coeff", "mo_occ")
    parts = {f.name: getattr(result, f.name) for f in dataclasses.fields(SCFResult)}
    # without the layer: a prediction does not keep its integrals
    return SCFResult(**parts | {name: parts[name].cpu() for name in matrices})


def is_worse(
    ks: KohnSham,
    predicted: tuple[Tensor, FockBuild],
    standard: tuple[Tensor, FockBuild],
    *,
    tol: float,
) -> bool:
    """Whether an SCF from a prediction will take longer than one from superposed atoms.

    Args:
        ks: Kohn-Sham layer of the molecule.
        predicted: A density matrix and the build there.
        standard: The superposed atoms and theirs.
        tol: Where the SCF ends, Eh. What is there needs no other start: where symmetry makes both
            commutators vanish, as in H2 with one function per atom, rounding would choose.

    Returns:
        True if ‖FPS - SPF‖ is above :data:`NEAR_ENOUGH` of the standard's and above ``tol``, or
        not finite.
    """
    norms = [float(ks.commutator(built.fock, dm).norm()) for dm, built in (predicted, standard)]
    return not norms[0] <= max(NEAR_ENOUGH * norms[1], tol)


def refine_best(
    ks: KohnSham,
    predicted: tuple[Tensor, FockBuild],
    start: FockBuild | None,
    *,
    tol: float,
    compare_start: bool,
) -> tuple[SCFResult, dict[str, Any]]:
    """Refine from the prediction, or from the superposed atoms where those are the better start.

    Args:
        ks: Kohn-Sham layer of the molecule.
        predicted: P̂ and the build there.
        start: The build at the superposed atoms, where it was made for the network: only then is
            it a free start.
        tol: As in :func:`refine`.
        compare_start: Also converge from the superposed atoms, and count.

    Returns:
        The refinement, and ``standard_start``, ``standard_iterations`` and ``instability`` of
        :class:`Prediction`.

    Raises:
        InputError: If ``tol`` is not positive.
    """
    superposed = ks.data.dm_guess
    worse = start is not None and is_worse(ks, predicted, (superposed, start), tol=tol)
    usual = refine(ks, superposed, start, tol=tol) if worse or compare_start else None
    done = usual if worse and usual is not None else refine(ks, *predicted, tol=tol)
    facts: dict[str, Any] = {"standard_start": worse}
    if done.converged:
        at = done.dm.to(superposed), done.fock.to(superposed)
        facts["instability"] = ks.spin_instability(*at)
    if compare_start and usual is not None:
        facts["standard_iterations"] = usual.iterations
    return done, facts


def assemble(
    molecule: Molecule,
    ks: KohnSham,
    fock: Tensor,
    dm: Tensor,
    refined: SCFResult | None,
    *,
    certificate: bool,
    coupled: bool,
    built: FockBuild | None = None,
    certified: Certificate | None = None,
) -> Prediction:
    """Everything that follows from a network's Fock matrix.

    Args:
        molecule: The structure.
        ks: Its Kohn-Sham layer.
        fock: H, the network's Fock matrix.
        dm: Density matrix of ``fock``.
        refined: The SCF that started from ``dm``, if any.
        certificate: Spend one Fock build on energy, rebuilt Fock matrix and certificate.
        coupled: One response build more, for the coupled error estimate.
        built: The build at ``dm``, where it exists; it is spent here if needed.
        certified: The certificate, where it exists; then it is not made here.

    Returns:
        The prediction, on the CPU.
    """
    rebuilt = energy = residual = blocks = n_electrons = None
    if certificate:
        built = ks.build(dm) if built is None else built
        rebuilt, energy = built.fock, float(built.energy)
        if certified is None:
            certified = ks.certificate(dm, rebuilt, energy, coupled=coupled)
        residual = float((fock - rebuilt).abs().mean())
        own = ks.orbitals(fock)
        blocks = orbital_block_rms(fock - rebuilt, own.mo_coeff, own.mo_occ)
        n_electrons = float(built.n_electrons)
    orbitals = ks.orbitals(fock if rebuilt is None else rebuilt)
    final = dm if refined is None else refined.dm.to(dm.device)
    spins = ks.unrestricted
    return Prediction(
        molecule=molecule,
        info=ks.info,
        fock=fock.cpu(),
        overlap=ks.data.ovlp.cpu(),
        dm=dm.cpu(),
        fock_rebuilt=None if rebuilt is None else rebuilt.cpu(),
        mo_energy=orbitals.mo_energy.cpu(),
        mo_occ=orbitals.mo_occ.cpu(),
        energy=energy,
        certificate=certified,
        residual_mae=residual,
        dipole=ks.dipole(dm).cpu().numpy(),
        n_electrons=n_electrons,
        spin_square=ks.spin_square(dm) if spins else None,
        refined_spin_square=ks.spin_square(final) if spins and refined is not None else None,
        degenerate=orbitals.degenerate,
        refined=refined,
        fock_builds=ks.fock_builds,
        coarse_builds=ks.coarse_builds,
        refined_dipole=ks.dipole(final).cpu().numpy(),
        residual_blocks=blocks,
    )


def canonical_orbitals(ks: KohnSham, result: Prediction) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients, energies and occupations of P̂, occupied first, each space by energy."""
    device = ks.data.ovlp.device
    assert result.fock_rebuilt is not None
    at = ks.to_layer(result.dm.to(device)), ks.to_layer(result.fock_rebuilt.to(device))
    coeff, occ, fock = semicanonical(ks.layer, *at)
    energy = torch.diagonal(fock, dim1=-2, dim2=-1)
    # occupations differ by 0.1 at least (even filling), energies by less than 1e4 Eh
    order = (energy - 1e6 * occ).argsort(-1)
    coeff = coeff.gather(-1, order.unsqueeze(-2).expand_as(coeff))
    energy, occ = energy.gather(-1, order), occ.gather(-1, order)
    return ks.from_layer(coeff), ks.from_layer(energy), ks.from_layer(occ)
