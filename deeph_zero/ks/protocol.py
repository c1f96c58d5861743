"""What the Kohn-Sham layer needs from outside: integrals, AO values and functionals, as protocols.

``integrals/`` implements them with PySCF; tests implement them with plain tensors. Nothing here
or below this folder imports PySCF. All tensors are float64 on one device.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ks.linalg.factor import Factor
from deeph_zero.types import AOMatrix, Brief, Features, GridScalar

XCKind = Literal["HF", "LDA", "GGA", "MGGA"]
"""PySCF's ``xc_type``; "HF" means no density functional at all (no grid needed)."""

NVAR: dict[str, int] = {"HF": 0, "LDA": 1, "GGA": 4, "MGGA": 5}
"""Rows of :data:`~deeph_zero.types.Features` per kind."""


@runtime_checkable
class Functional(Protocol):
    """A semilocal exchange-correlation functional, evaluated pointwise.

    The argument is PySCF's ``rho`` array with a spin axis always: [1, nvar, ngrids] for the total
    density of a closed shell, [2, nvar, ngrids] for (alpha, beta). f is the energy per volume,
    Eh / bohr^3, so that E_xc = sum(weights * f). Derivatives are with respect to the rows of the
    argument (the gradient components themselves, not sigma). Where the density is at or below
    libxc's own thresholds every
    result is zero, never NaN.
    """

    kind: XCKind

    def gradient(self, rho: Features) -> tuple[GridScalar, Features]:
        """f and its first derivative, same shape as ``rho``."""
        ...

    def second(self, rho: Features, d1: Features) -> Features:
        """Second derivative contracted with the direction ``d1`` (linear in it)."""
        ...

    def third(self, rho: Features, d1: Features, d2: Features) -> Features:
        """Third derivative contracted with two directions (symmetric, bilinear)."""
        ...


@runtime_checkable
class TwoElectron(Protocol):
    """Two-electron integrals of one operator (1/r12, or a range-separated piece of it)."""

    def coulomb(self, dm: AOMatrix) -> AOMatrix:
        """J[dm], linear, any symmetric ``dm`` with any leading axes."""
        ...

    def exchange(self, dm: AOMatrix, factors: Sequence[Factor] | None = None) -> AOMatrix:
        """K[dm], linear, any symmetric ``dm`` with any leading axes.

        ``factors``, one ``spectral_factor`` per matrix, save work where they are known.
        """
        ...


@dataclasses.dataclass(frozen=True)
class AOBlock:
    """AO values on one block of grid points.

    Attributes:
        ao: [ncomp, npoints, nloc]; ncomp = 1 (LDA) or 4 (value, d/dx, d/dy, d/dz). Fastest with
            the points next to each other in memory: the transpose of contiguous ``rows``.
        index: AO indices of the nloc columns, or None when all nao are present.
        weights: Quadrature weights, [npoints].
        kept: Whether the grid holds these tensors anyway: another hold on them costs no memory.
    """

    ao: Float[Tensor, "ncomp npoints nloc"]
    index: Int[Tensor, " nloc"] | None
    weights: Float[Tensor, " npoints"]
    kept: bool = False

    @property
    def rows(self) -> Float[Tensor, "ncomp nloc npoints"]:
        """The values with one row per AO."""
        return self.ao.mT


@runtime_checkable
class Grid(Protocol):
    """AO values in blocks that fit a stated memory limit; blocks are kept or recomputed."""

    nao: int
    ngrids: int
    n_blocks: int

    def block(self, k: int) -> AOBlock:
        """Block ``k``, 0 <= k < n_blocks."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class AOStack:
    """AO values on blocks of several grids, padded to one shape.

    Attributes:
        ao: Values, and gradients; padding columns have none.
        weights: Quadrature weights; those of padding points are zero.
        index: AO number of each column; of a padding column one that no AO has.
    """

    ao: Float[Tensor, "ncomp nblk npoints nloc"]
    weights: Float[Tensor, "nblk npoints"]
    index: Int[Tensor, "nblk nloc"]


@runtime_checkable
class StackableGrid(Grid, Protocol):
    """A grid whose blocks can be made together with those of others, on a device."""

    stackable: bool
    ncomp: int

    def shape(self, k: int) -> tuple[int, int]:
        """Points and columns of a block."""
        ...

    def stacked(self, blocks: "Sequence[tuple[StackableGrid, int]]", nao: int) -> AOStack:
        """Blocks of grids of its own kind; ``nao`` is the index of columns that are not there."""
        ...


@runtime_checkable
class SingleGrid(Grid, Protocol):
    """A grid that gives its values in single precision as well, and then keeps no others."""

    def shape(self, k: int) -> tuple[int, int]:
        """Points and columns of a block."""
        ...

    def single(self, k: int) -> AOBlock:
        """Block ``k`` with its AO values, not its weights, in float32."""
        ...


@dataclasses.dataclass(frozen=True)
class VV10Parameters:
    """One VV10 term.

    Attributes:
        b: Short-range damping.
        c: C of the local gap, fitted to C6 coefficients.
        coefficient: Factor of the term in the functional.
    """

    b: float
    c: float
    coefficient: float


@dataclasses.dataclass(frozen=True)
class Points:
    """Quadrature points.

    Attributes:
        coords: Bohr; neighbours in memory should be neighbours in space.
        weights: Bohr³.
    """

    coords: Float[Tensor, "ngrids 3"]
    weights: GridScalar


@dataclasses.dataclass(frozen=True, kw_only=True)
class NonlocalCorrelation:
    """VV10 terms and the grid they are summed on, which has AO gradients.

    Attributes:
        grid: AO values, blocks in the order of ``points``.
        points: Coordinates and weights of all its points.
        terms: Parameters of every term.
    """

    grid: Grid
    points: Points
    terms: tuple[VV10Parameters, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoarseGrids:
    """A second, much smaller quadrature of the same molecule, see :mod:`.scf.two_grids`.

    Attributes:
        grid: Points for the semilocal functional.
        nlc: The VV10 terms on the same points, or None.
        ratio: Points of the target grid for one of these, left-out points counted.
        memory_bytes: Most bytes that kept AO values can take.
    """

    grid: Grid
    nlc: NonlocalCorrelation | None
    ratio: float
    memory_bytes: int = 0


if TYPE_CHECKING:

    class MoleculeData(Protocol):
        """What a layer reads of its molecule, one part after the other, see :class:`KSData`.

        :class:`KSData` has all of it in memory; a store of many geometries may fetch the large
        parts (integrals, grids) whenever they are read.
        """

        @property
        def ovlp(self) -> Float[Tensor, "nao nao"]:
            """Overlap S."""
            ...

        @property
        def hcore(self) -> Float[Tensor, "nao nao"]:
            """T + V (+ ECP), Eh."""
            ...

        @property
        def dipole(self) -> Float[Tensor, "3 nao nao"]:
            """Dipole integrals, bohr."""
            ...

        @property
        def nuclear_dipole(self) -> Float[Tensor, " 3"]:
            """Dipole of the nuclei, bohr."""
            ...

        @property
        def e_nuc(self) -> float:
            """Nuclear repulsion, Eh."""
            ...

        @property
        def nelec(self) -> tuple[int, int]:
            """(n_alpha, n_beta)."""
            ...

        @property
        def unrestricted(self) -> bool:
            """UKS when true."""
            ...

        @property
        def coulomb(self) -> TwoElectron:
            """Operator of J."""
            ...

        @property
        def exchange(self) -> tuple[tuple[float, TwoElectron], ...]:
            """((coefficient, operator), ...) of c_x K."""
            ...

        @property
        def functional(self) -> Functional | None:
            """Semilocal part, or None."""
            ...

        @property
        def grid(self) -> Grid | None:
            """AO values, or None."""
            ...

        @property
        def dm_guess(self) -> AOMatrix:
            """Density to start from."""
            ...

        @property
        def lindep_threshold(self) -> float:
            """Eigenvectors of S below it are dropped."""
            ...

        @property
        def nlc(self) -> NonlocalCorrelation | None:
            """Non-local correlation, or None."""
            ...

        @property
        def e_disp(self) -> float:
            """Dispersion energy, Eh."""
            ...

        @property
        def coarse(self) -> Callable[[], CoarseGrids | None] | None:
            """Gives the coarse grids; None where nobody wants them."""
            ...

        @property
        def added(self) -> tuple[object, ...]:
            """Further energy terms."""
            ...

        def plain(self) -> "KSData":
            """All of it, in memory for as long as it is used."""
            ...

else:  # a check at run time would read, and so fetch, every part
    MoleculeData: TypeAlias = Any


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class KSData(Brief):
    """Everything the Kohn-Sham layer knows of one molecule, basis, grid and functional.

    Attributes:
        ovlp: Overlap S, [nao, nao].
        hcore: T + V (+ ECP), [nao, nao], Eh.
        dipole: <m| r |n> about the nuclear-charge centre, [3, nao, nao], bohr.
        nuclear_dipole: sum_A Z_A (R_A - centre), [3]; zero unless ghost atoms or ECPs shift it.
        e_nuc: Nuclear repulsion, Eh.
        nelec: (n_alpha, n_beta).
        unrestricted: UKS when true.
        coulomb: Operator of J.
        exchange: ((coefficient, operator), ...) with c_x K = sum coefficient * K_operator
            (empty for a pure functional; two entries for range separation).
        functional: Semilocal part, or None.
        grid: AO values, or None when there is no semilocal part.
        dm_guess: Superposition of atomic densities rescaled to the electron number, as users have
            matrices: [nao, nao], or [2, nao, nao] if unrestricted.
        lindep_threshold: Eigenvectors of S below it are dropped (PySCF's rule).
        nlc: Non-local correlation, or None.
        e_disp: Dispersion energy of the geometry, Eh; part of every total energy.
        coarse: Gives the coarse grids, made at the first call, or None where they would not be
            much smaller; None where nobody wants them.
        added: Energy terms (:class:`~deeph_zero.ks.terms.term.Term`) beside those that the data
            above make, an electric field for one.
    """

    ovlp: Float[Tensor, "nao nao"]
    hcore: Float[Tensor, "nao nao"]
    dipole: Float[Tensor, "3 nao nao"]
    nuclear_dipole: Float[Tensor, " 3"]
    e_nuc: float
    nelec: tuple[int, int]
    unrestricted: bool
    coulomb: TwoElectron
    exchange: tuple[tuple[float, TwoElectron], ...]
    functional: Functional | None
    grid: Grid | None
    dm_guess: AOMatrix
    lindep_threshold: float
    nlc: NonlocalCorrelation | None = None
    e_disp: float = 0.0
    coarse: Callable[[], CoarseGrids | None] | None = None
    added: tuple[object, ...] = ()

    def plain(self) -> "KSData":
        """A copy with every part in memory."""
        return self
