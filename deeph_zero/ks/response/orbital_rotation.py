"""Occupied-virtual rotations about one determinant: gradient and Hessian-vector product of E.

With C -> C exp(K), K antisymmetric with K_ai = x_ai, and f the electrons per orbital (2 closed
shell, 1 per spin), E(x) = E + g·x + ½ x·Hx + ... where

    g_ai    = 2 f F_ai
    (Hx)_ai = 2 f [F_ab x_bi - x_aj F_ji + (R[dP])_ai],   dP = f (C_v x C_oᵀ + transpose),

and R is the response build. All vectors are flat: the [nvir, nocc] blocks of every spin, in order.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.response.quadratic import semicanonical
from deeph_zero.types import SpinMatrix

Vector = Float[Tensor, " nrot"]

INTEGER_TOL = 1e-3
IDEMPOTENT_TOL = 1e-6


class Rotations:
    """The rotations about one density matrix of integer occupations, in semicanonical orbitals.

    Attributes:
        gradient: g, Eh.
        diagonal: Diagonal of H without the response, 2 f (e_a - e_i), Eh; may be negative.
        size: Number of rotations.
        electrons: f.
    """

    def __init__(self, layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix) -> None:
        """Diagonalise F within the occupied and within the virtual space of ``dm``.

        Args:
            layer: The molecule; its response builds are used and counted.
            dm: Density matrix of integer occupations.
            fock: F[dm], Eh.

        Raises:
            InputError: If ``dm`` has fractional occupations.
        """
        self.layer = layer
        self.dm = dm
        self.electrons = layer.per_orbital
        coeff, occ, f_mo = semicanonical(layer, dm, fock)
        if not _is_integer(occ, self.electrons):
            raise InputError(
                "expected a density matrix of integer occupations for orbital rotations, got "
                "fractional ones; diagonalise a Fock matrix with degeneracy_tol=0 first"
            )
        self._spaces: list[tuple[Tensor, Tensor]] = []
        self._levels: list[tuple[Tensor, Tensor]] = []
        gradient, diagonal = [], []
        for c, n, f in zip(coeff, occ, f_mo, strict=True):
            filled = n > 0.5 * self.electrons
            energy = f.diagonal()
            self._spaces.append((c[:, filled], c[:, ~filled]))
            self._levels.append((energy[filled], energy[~filled]))
            gradient.append(2 * self.electrons * f[~filled][:, filled].reshape(-1))
            de = energy[~filled].unsqueeze(1) - energy[filled]
            diagonal.append(2 * self.electrons * de.reshape(-1))
        self.gradient: Vector = torch.cat(gradient)
        self.diagonal: Vector = torch.cat(diagonal)
        self.size = self.gradient.shape[0]

    def hessian(self, x: Vector) -> Vector:
        """H x; one response build.

        Args:
            x: Rotation, radians.

        Returns:
            H x, Eh.
        """
        change = self.layer.response(self.dm, self.first_order(x))
        return 2 * self.electrons * self.projected(x, change)

    def projected(self, x: Vector, change: SpinMatrix) -> Vector:
        """F_ab x_bi - x_aj F_ji + (dF)_ai for a change dF of the Fock matrix that is given, Eh."""
        parts = []
        for block, d, (occupied, virtual), (e_occ, e_vir) in zip(
            self._blocks(x), change, self._spaces, self._levels, strict=True
        ):
            own = e_vir.unsqueeze(1) * block - block * e_occ
            parts.append((own + virtual.mH @ d @ occupied).reshape(-1))
        return torch.cat(parts)

    def coupling(self, change: SpinMatrix) -> Vector:
        """The virtual-occupied elements of a matrix; one spin stands for both."""
        spins = change.expand(len(self._spaces), -1, -1)
        parts = [v.mH @ d @ o for d, (o, v) in zip(spins, self._spaces, strict=True)]
        return torch.cat([part.reshape(-1) for part in parts])

    def overlap_change(self, ovlp: Float[Tensor, "nao nao"]) -> tuple[SpinMatrix, SpinMatrix]:
        """What a change dS of the overlap does to the density before any rotation.

        Args:
            ovlp: dS.

        Returns:
            dP that keeps the occupied orbitals orthonormal, -f C_o (C_oᵀ dS C_o) C_oᵀ, and a matrix
            whose virtual-occupied elements are dS_ai e_i, Eh.
        """
        changes, weighted = [], []
        back = self.layer.data.ovlp
        for (occupied, _), (energy, _) in zip(self._spaces, self._levels, strict=True):
            inner = occupied.mH @ ovlp @ occupied
            changes.append(-self.electrons * occupied @ inner @ occupied.mH)
            weighted.append(ovlp @ (occupied * energy) @ occupied.mH @ back)
        return torch.stack(changes), torch.stack(weighted)

    def first_order(self, x: Vector) -> SpinMatrix:
        """dP, the change of the density matrix linear in ``x``."""
        half = [
            virtual @ block @ occupied.mH
            for block, (occupied, virtual) in zip(self._blocks(x), self._spaces, strict=True)
        ]
        stacked = self.electrons * torch.stack(half)
        return stacked + stacked.mH

    def rotated(self, x: Vector) -> SpinMatrix:
        """Density matrix after the rotation exp(K(x)); idempotent for any ``x``."""
        out = []
        for block, (occupied, virtual) in zip(self._blocks(x), self._spaces, strict=True):
            nocc, nvir = occupied.shape[1], virtual.shape[1]
            generator = block.new_zeros(nocc + nvir, nocc + nvir)
            generator[nocc:, :nocc] = block
            generator[:nocc, nocc:] = -block.mH
            turned = torch.cat([occupied, virtual], dim=1) @ torch.matrix_exp(generator)[:, :nocc]
            out.append(self.electrons * turned @ turned.mH)
        return torch.stack(out)

    def orbitals(self) -> tuple[Tensor, Tensor, Tensor]:
        """(mo_energy, mo_coeff, mo_occ) of these orbitals, ascending by energy in each spin."""
        energies, coeffs, occs = [], [], []
        for (occupied, virtual), (e_occ, e_vir) in zip(self._spaces, self._levels, strict=True):
            energy, order = torch.cat([e_occ, e_vir]).sort(stable=True)
            filled = torch.cat([torch.ones_like(e_occ), torch.zeros_like(e_vir)])
            energies.append(energy)
            coeffs.append(torch.cat([occupied, virtual], dim=1)[:, order])
            occs.append(self.electrons * filled[order])
        return torch.stack(energies), torch.stack(coeffs), torch.stack(occs)

    def _blocks(self, x: Vector) -> list[Tensor]:
        sizes = [(v.shape[1], o.shape[1]) for o, v in self._spaces]
        parts = x.split([a * i for a, i in sizes])
        return [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]


def _is_integer(occ: Tensor, electrons: float) -> bool:
    distance = torch.minimum(occ.abs(), (occ - electrons).abs())
    return float(distance.max()) < INTEGER_TOL


def is_idempotent(layer: KohnShamLayer, dm: SpinMatrix) -> bool:
    """Whether ``dm`` is a determinant's: P S P = f P to 1e-6 and the right electron number."""
    electrons = layer.per_orbital
    ps = dm @ layer.data.ovlp
    count = ps.diagonal(dim1=-2, dim2=-1).sum(-1)
    want = count.new_tensor(layer.nelec if layer.unrestricted else [2 * layer.nelec[0]])
    if float((count - want.to(count)).abs().max()) > INTEGER_TOL:
        return False
    return float((ps @ dm - electrons * dm).abs().max()) < IDEMPOTENT_TOL
