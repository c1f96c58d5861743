"""Data of a molecule whose large tensors are loaded from a store when they are used."""

import dataclasses
from collections.abc import Callable

import torch

from deeph_zero.ks.parallel.sharing import threads_per_operation
from deeph_zero.ks.protocol import CoarseGrids, Grid, KSData, NonlocalCorrelation, TwoElectron
from deeph_zero.train.store.compact import Waiting
from deeph_zero.types import AOMatrix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heavy:
    """The large part of :class:`~deeph_zero.ks.protocol.KSData`, with its names."""

    coulomb: TwoElectron
    exchange: tuple[tuple[float, TwoElectron], ...]
    grid: Grid | None
    nlc: NonlocalCorrelation | None
    dipole: torch.Tensor
    coarse: Callable[[], CoarseGrids | None] | None

    @classmethod
    def of(cls, data: KSData) -> "Heavy":
        """The large part of a geometry's data."""
        return cls(**{field.name: getattr(data, field.name) for field in dataclasses.fields(cls)})


class StoredData:
    """:class:`~deeph_zero.ks.protocol.MoleculeData` whose large part is in a store."""

    def __init__(self, data: KSData, fetch: Callable[[], Heavy]) -> None:
        """Keep what is small.

        Args:
            data: The whole.
            fetch: Gives its large part, always with the same values.
        """
        self.nuclear_dipole = data.nuclear_dipole
        self.e_nuc = data.e_nuc
        self.nelec = data.nelec
        self.unrestricted = data.unrestricted
        self.functional = data.functional
        self.lindep_threshold = data.lindep_threshold
        self.e_disp = data.e_disp
        self.added = data.added
        self._ovlp, self._hcore = Waiting(data.ovlp), Waiting(data.hcore)
        self._dm_guess = Waiting(data.dm_guess)
        self._fetch = fetch

    def plain(self) -> KSData:
        """All of it, in memory for as long as it is used."""
        return KSData(**{f.name: getattr(self, f.name) for f in dataclasses.fields(KSData)})

    def _heavy(self) -> Heavy:
        with threads_per_operation():  # inside a build too: the same threads give the same bits
            return self._fetch()

    @property
    def ovlp(self) -> AOMatrix:
        """S."""
        return self._ovlp.matrix()

    @property
    def hcore(self) -> AOMatrix:
        """T + V, Eh."""
        return self._hcore.matrix()

    @property
    def dm_guess(self) -> AOMatrix:
        """Starting density."""
        return self._dm_guess.matrix()

    @property
    def coulomb(self) -> TwoElectron:
        """Operator of J."""
        return self._heavy().coulomb

    @property
    def exchange(self) -> tuple[tuple[float, TwoElectron], ...]:
        """((coefficient, operator), ...) of c_x K."""
        return self._heavy().exchange

    @property
    def grid(self) -> Grid | None:
        """AO values."""
        return self._heavy().grid

    @property
    def nlc(self) -> NonlocalCorrelation | None:
        """Non-local correlation, with its grid."""
        return self._heavy().nlc

    @property
    def coarse(self) -> Callable[[], CoarseGrids | None] | None:
        """The coarse grids of an SCF on two grids."""
        return self._heavy().coarse

    @property
    def dipole(self) -> torch.Tensor:
        """Dipole integrals, [3, nao, nao], bohr."""
        return self._heavy().dipole
