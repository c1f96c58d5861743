"""What a prediction holds of its derivatives: response to fields and motions, vibrations."""

import dataclasses

import numpy as np
from jaxtyping import Float

from deeph_zero.types import Brief


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Vibrations(Brief):
    """Normal modes in the harmonic approximation, average atomic masses.

    Attributes:
        frequencies: cm⁻¹, ascending; imaginary ones are negative.
        intensities: Infrared, km/mol.
        modes: Displacements of the atoms per mass-weighted unit, u^(-1/2).
    """

    frequencies: Float[np.ndarray, " nmodes"]
    intensities: Float[np.ndarray, " nmodes"]
    modes: Float[np.ndarray, "nmodes natm 3"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Response(Brief):
    """First derivatives of the dipole moment, and what follows.

    Attributes:
        polarizability: α = dμ/dε, bohr³.
        dipole_derivatives: dμ_y/dR_Ax by atom, x and y, elementary charges.
        vibrations: Frequencies and intensities; None of an estimate.
        polarizability_error: Estimated largest error of an element, bohr³; None for a refined
            state.
        dipole_derivatives_error: Estimated error of the dipole derivatives.
    """

    polarizability: Float[np.ndarray, "3 3"]
    dipole_derivatives: Float[np.ndarray, "natm 3 3"]
    vibrations: Vibrations | None = None
    polarizability_error: float | None = None
    dipole_derivatives_error: float | None = None

    @property
    def estimated(self) -> bool:
        """Whether it is of a density that was not refined."""
        return self.polarizability_error is not None
