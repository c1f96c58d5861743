"""How a ``geometry`` model's own Fock matrix follows the atoms, by automatic differentiation.

H(R) = H₀(R) + ΔH(R): the integrals by PySCF's derivatives, the self-consistent charges of H₀ as an
implicit function, the network by forward-mode differentiation; nothing is a finite difference. The
response of the density is what the model has learnt of it: no equation is solved.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.atomic_clouds import atomic_clouds, superposed_atoms
from deeph_zero.integrals.atomic_potentials import screened_core
from deeph_zero.integrals.mole import build_mole
from deeph_zero.integrals.moving_clouds import MovingClouds, MovingScreenedCore
from deeph_zero.kohnsham.molecule import KohnSham
from deeph_zero.ks.moving_multipoles import MovingScreened, density_change
from deeph_zero.ks.multipoles import Spectrum
from deeph_zero.ks.response.nuclear import FockGradient, chosen_atoms
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.balance import Balance
from deeph_zero.nn.inputs import PhysicsMatrices
from deeph_zero.nn.moving import MovingNetwork
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spectral_bound import bounded, bounded_change
from deeph_zero.types import AOMatrix

if TYPE_CHECKING:
    from pyscf import gto

_SHARP = 1e-7
"""Width (Eh) at which levels are filled in order, but for those as near as this."""


def check_differentiable(network: FockNetwork) -> None:
    """See whether a model's Fock matrix has derivatives.

    Args:
        network: The model's.

    Raises:
        InputError: If it reads the Fock matrix of a density.
    """
    if network.spec.inputs != "geometry":
        raise InputError(
            f"expected a model of {argument('inputs', 'geometry')} to differentiate, got one of "
            f"{argument('inputs', network.spec.inputs)}, whose inputs hold a Fock build; refine "
            "instead, and take ks.scf().fock_gradient()"
        )


def model_gradient(
    network: FockNetwork, molecule: Molecule, method: Method, atoms: Any = None
) -> FockGradient:
    """dH/dR and dS/dR of a model's own Fock matrix.

    Args:
        network: With ``geometry`` inputs.
        molecule: The structure.
        method: What the model was trained on.
        atoms: Which atoms to move, from 0; None: all of them.

    Returns:
        Total derivatives, and those without the motion of the basis, which is taken off as of a
        refined state with the operator F[P̂] of the predicted density. ``dm`` is NaN where a
        degenerate frontier level is filled evenly.

    Raises:
        InputError: If the model has other inputs, the integrals have no derivatives, or there is
            no such atom.
    """
    check_differentiable(network)
    mol = build_mole(molecule, basis=method.basis)
    ks = KohnSham.of_method(mol, method, builds=False)
    moving = ks.moving_integrals()
    chosen = chosen_atoms(atoms, moving.natm)
    spec = network.spec
    base = (_Multipoles if spec.base == "multipoles" else _ScreenedCore)(ks, mol)
    here = MovingNetwork(
        network,
        [int(z) for z in molecule.numbers],
        torch.as_tensor(molecule.coords, dtype=torch.float64),
        (molecule.charge, molecule.spin),
        base.matrices,
    )
    correction = _Correction(network, ks, here.output)
    parts: list[Tensor] = []
    overlaps: list[Tensor] = []
    for atom in chosen:
        changes = base.moved(atom)
        matrices = [change for _, change in changes]
        for (fock0, change), output in zip(changes, here.moved(atom, matrices), strict=True):
            parts.append(fock0 + correction.moved(output, change.ovlp))
            overlaps.append(change.ovlp)
    total = torch.stack(parts).unflatten(0, (-1, 3))
    overlap = torch.stack(overlaps).unflatten(0, (-1, 3))
    fock = base.fock + correction.value
    orbitals = ks.orbitals(fock)
    inner = moving.fock(ks.to_layer(ks.density(fock))).inner
    return FockGradient(
        atoms=tuple(chosen),
        fock=total,
        overlap=overlap,
        perturbation=total - _of_basis(ks, inner, chosen),
        dm=torch.full_like(total, torch.nan)
        if orbitals.degenerate
        else _densities(ks, fock, total, overlap),
    )


_Change = tuple[AOMatrix, PhysicsMatrices]
"""Derivatives of H₀ and of what the network reads."""


class _ScreenedCore:
    """The base of models of version 0.1, and what the network reads beside it."""

    def __init__(self, ks: KohnSham, mol: "gto.Mole") -> None:
        bare = screened_core(mol, ks.data.hcore)
        self._moving = MovingScreenedCore(mol)
        self._spins = ks.layer.nspin
        self._twice = ks.unrestricted
        self.fock = self._for_spins(bare)
        self.matrices = PhysicsMatrices(ovlp=ks.data.ovlp, hcore=bare, n_spin=self._spins)

    def moved(self, atom: int) -> list[_Change]:
        """Along x, y and z."""
        pairs = zip(self._moving.bare(atom), self._moving.ovlp(atom), strict=True)
        return [
            (
                self._for_spins(bare),
                PhysicsMatrices(ovlp=ovlp, hcore=bare, n_spin=self._spins),
            )
            for bare, ovlp in pairs
        ]

    def _for_spins(self, matrix: Tensor) -> AOMatrix:
        return matrix.repeat(2, 1, 1) if self._twice else matrix


class _Multipoles:
    """Superposed atoms with charges and dipoles, and what the network reads."""

    def __init__(self, ks: KohnSham, mol: "gto.Mole") -> None:
        bare = superposed_atoms(mol, ks.data.hcore)
        self._integrals = MovingClouds(mol)
        self._screened = MovingScreened(bare, ks.x, ks.data.nelec, atomic_clouds(mol))
        self._twice = ks.unrestricted
        found = self._screened
        self.fock, self.matrices = self._read(
            ks.data.ovlp, bare, found.fock, found.dm, found.dm_free
        )

    def moved(self, atom: int) -> list[_Change]:
        """Along x, y and z."""
        bare, ovlp = self._integrals.bare(atom), self._integrals.ovlp(atom)
        found = self._screened.moved(bare, self._integrals.clouds(atom))
        return [self._read(*parts) for parts in zip(ovlp, bare, *found, strict=True)]

    def _read(self, ovlp: Tensor, bare: Tensor, fock: Tensor, dm: Tensor, free: Tensor) -> _Change:
        """Linear, so that it does the same to matrices and to their derivatives."""
        if self._twice:
            fock = fock.repeat(2, 1, 1)
        else:
            dm, free = dm.sum(0), free.sum(0)
        return fock, PhysicsMatrices(ovlp=ovlp, hcore=bare, dm0=dm, fock0=fock, ddm0=dm - free)


class _Correction:
    """From a network's output to the correction, as a prediction makes it."""

    def __init__(self, network: FockNetwork, ks: KohnSham, output: AOMatrix) -> None:
        self._ovlp, self._output = ks.data.ovlp, output
        self._seen = network.scales.seen_corrections
        self._balance = Balance.of(self._ovlp) if network.spec.balanced else None
        self._plain = output if self._balance is None else self._balance.correction(output)
        self.value = bounded(self._plain, ks.x, self._ovlp, self._seen)

    def moved(self, output: AOMatrix, ovlp: Tensor) -> AOMatrix:
        """Derivative of the bounded correction, from those of the output and of the overlap."""
        plain = output
        if self._balance is not None:
            half = Balance.moved(self._ovlp, ovlp) @ self._output @ self._balance.root
            plain = self._balance.correction(output) + half + half.mT
        return bounded_change(self._plain, plain, self._ovlp, ovlp, self._seen)


def _of_basis(ks: KohnSham, inner: Tensor, atoms: Sequence[int]) -> Tensor:
    """<∂m|F|n> + <m|F|∂n> of the orbitals of each atom."""
    owner = torch.tensor(ks.info.ao_atoms)
    own = torch.stack([(owner == atom).to(inner) for atom in atoms])
    along = inner if ks.unrestricted else inner.squeeze(1)
    lead = [1] * (along.ndim - 2)
    basis = along * own.view(len(atoms), *lead, -1, 1)
    return basis + basis.mT


def _densities(ks: KohnSham, fock: AOMatrix, moved: Tensor, ovlp: Tensor) -> Tensor:
    """dP/dR of the matrix's own density."""
    width = ks.smearing or _SHARP
    spectra = [
        Spectrum.of(one, ks.x, (n, n), width)
        for one, n in zip(ks.to_layer(fock), ks.data.nelec, strict=False)
    ]
    parts = []
    for change, of_ovlp in zip(moved.flatten(0, 1), ovlp.flatten(0, 1), strict=True):
        of_spins = change if ks.unrestricted else change.unsqueeze(0)
        found = [
            density_change(spectrum, one, of_ovlp)[0]
            for spectrum, one in zip(spectra, of_spins, strict=True)
        ]
        parts.append(torch.stack(found) if ks.unrestricted else 2.0 * found[0])
    return torch.stack(parts).unflatten(0, moved.shape[:2])
