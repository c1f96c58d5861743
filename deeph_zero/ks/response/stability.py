"""Whether a converged SCF is a minimum: lowest eigenvalue of the orbital-rotation Hessian.

Internal: real rotations that keep the spin treatment. External, for a closed shell: rotations of
alpha against beta (RKS -> UKS), whose response has no Coulomb part and the functional's spin
response. Eigenvalues are those of Δe + response in units where the diagonal is e_a - e_i.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.davidson import Eigenpair, lowest_eigenpair
from deeph_zero.ks.protocol import Functional
from deeph_zero.ks.response.orbital_rotation import Rotations, Vector
from deeph_zero.types import AOMatrix, Brief, SpinMatrix

INSTABILITY = -1e-5
"""An eigenvalue below this (Eh) is an instability; a grid moves exact zeros by about as much."""

STEP = 0.3
"""Rotation along an instability (radians) of the density offered as a new start."""


@runtime_checkable
class Polarisable(Protocol):
    """A closed-shell functional that knows its spin-polarised form."""

    def polarised(self) -> Functional:
        """The functional of spin densities (alpha, beta)."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Stability(Brief):
    """Result of a stability analysis; energies in Eh.

    Attributes:
        internal: Lowest eigenvalue of the real internal Hessian; inf where nothing can rotate.
        external: Lowest RKS -> UKS eigenvalue; None for an unrestricted layer.
        stable_internal: ``internal`` is not below -1e-5.
        stable_external: ``external`` is not below -1e-5; None where ``external`` is.
        converged: Every eigenvalue met its tolerance.
        fock_builds: Response builds spent.
        dm_internal: Density matrix a short way down the internal instability, None if stable;
            start an SCF there.
        dm_external: Density matrix down the external instability, [2, nao, nao], None if stable;
            start a UKS there.
    """

    internal: float
    external: float | None
    stable_internal: bool
    stable_external: bool | None
    converged: bool
    fock_builds: int
    dm_internal: AOMatrix | None
    dm_external: Float[Tensor, "2 nao nao"] | None


def stability(
    layer: KohnShamLayer,
    dm: SpinMatrix,
    fock: SpinMatrix,
    *,
    external: bool = True,
    tol: float = 1e-3,
) -> Stability:
    """Check a converged density.

    Args:
        layer: The molecule.
        dm: Converged density matrix, integer occupations.
        fock: F[dm], Eh.
        external: Also check RKS -> UKS, for a closed shell.
        tol: Residual of the eigenvectors, Eh; eigenvalues are good to about its square.

    Returns:
        The lowest eigenvalues and where to go from an instability.

    Raises:
        InputError: If occupations are fractional, or the functional has no spin-polarised form.
    """
    before = layer.fock_builds
    with torch.no_grad():
        rotations = Rotations(layer, dm, fock)
        scale = 2 * rotations.electrons
        internal = _lowest(rotations, lambda x: rotations.hessian(x) / scale, tol)
        dm_internal = _displaced(rotations, internal)
        outer, dm_external = None, None
        if external and not layer.unrestricted:
            triplet = SpinRotations(layer, dm, rotations)
            outer = _lowest(rotations, triplet.hessian, tol)
            if outer.value < INSTABILITY:
                dm_external = triplet.displaced(STEP * outer.vector)
            layer.fock_builds += triplet.polarised.fock_builds
    return Stability(
        internal=internal.value,
        external=None if outer is None else outer.value,
        stable_internal=internal.value >= INSTABILITY,
        stable_external=None if outer is None else outer.value >= INSTABILITY,
        converged=internal.converged and (outer is None or outer.converged),
        fock_builds=layer.fock_builds - before,
        dm_internal=dm_internal,
        dm_external=dm_external,
    )


def _lowest(rotations: Rotations, product: object, tol: float) -> Eigenpair:
    if rotations.size == 0:
        return Eigenpair(float("inf"), rotations.gradient, 0.0, True, 0)
    diagonal = rotations.diagonal / (2 * rotations.electrons)
    return lowest_eigenpair(product, diagonal, tol=tol)  # pyright: ignore[reportArgumentType]


def _displaced(rotations: Rotations, pair: Eigenpair) -> Tensor | None:
    return rotations.rotated(STEP * pair.vector) if pair.value < INSTABILITY else None


class SpinRotations:
    """Rotations of alpha by +x and beta by -x about a closed shell."""

    def __init__(self, layer: KohnShamLayer, dm: SpinMatrix, rotations: Rotations) -> None:
        """Make the unrestricted layer, ``polarised``, whose responses are used and counted.

        Args:
            layer: A closed-shell layer.
            dm: Its density matrix.
            rotations: The rotations about ``dm``.

        Raises:
            InputError: If the functional cannot be spin-polarised.
        """
        self._rotations = rotations
        self._dm = dm.expand(2, -1, -1) / 2
        self.polarised = unrestricted_layer(layer)

    def hessian(self, x: Vector) -> Vector:
        """The RKS -> UKS Hessian times ``x``, in units where its diagonal is e_a - e_i, Eh."""
        half = self._rotations.first_order(x) / 2
        change = self.polarised.response(self._dm, torch.cat([half, -half]))
        # the spin response is odd: R_alpha = -R_beta, and R_alpha stands for the closed shell's
        return self._rotations.projected(x, change[:1])

    def displaced(self, x: Vector) -> Tensor:
        """Density matrices [2, nao, nao] with alpha turned by ``x`` and beta by ``-x``."""
        up, down = self._rotations.rotated(x), self._rotations.rotated(-x)
        return torch.cat([up, down]) / 2


def unrestricted_layer(layer: KohnShamLayer) -> KohnShamLayer:
    """The molecule with spin densities; integrals and grid are shared.

    Args:
        layer: A closed-shell layer.

    Returns:
        The unrestricted one, its build counter at zero.

    Raises:
        InputError: If the functional cannot be spin-polarised.
    """
    plain = layer.data.plain()
    functional = plain.functional
    if functional is not None:
        if not isinstance(functional, Polarisable):
            raise InputError(
                f"expected a functional with a polarised() form for the RKS -> UKS stability, got "
                f"{type(functional).__name__}; check with external=False"
            )
        functional = functional.polarised()
    data = dataclasses.replace(
        plain,
        unrestricted=True,
        functional=functional,
        dm_guess=layer.dm_guess.expand(2, -1, -1) / 2,
    )
    return KohnShamLayer(data, degeneracy_tol=layer.degeneracy_tol, gap_floor=layer.gap_floor)
