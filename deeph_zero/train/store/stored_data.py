"""The data of a geometry whose large part lies elsewhere and is fetched whenever it is used."""

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
        """That of a geometry."""
        return cls(**{field.name: getattr(data, field.name) for field in dataclasses.fields(cls)})


class StoredData(KSData):
    """The data of one geometry whose large part is in a store, fetched whenever it is used."""

    def __init__(self, data: KSData, fetch: Callable[[], Heavy]) -> None:
        """Keep what is small.

        Args:
            data: The whole.
            fetch: Gives its large part, always with the same values.
        """
        small = {name: Waiting(getattr(data, name)) for name in ("ovlp", "hcore", "dm_guess")}
        object.__setattr__(self, "_small", small)
        for field in dataclasses.fields(KSData):
            if not isinstance(getattr(StoredData, field.name, None), property):
                object.__setattr__(self, field.name, getattr(data, field.name))
        object.__setattr__(self, "_fetch", fetch)

    def plain(self) -> KSData:
        """The whole, all of it in memory for as long as it is used."""
        return KSData(**{f.name: getattr(self, f.name) for f in dataclasses.fields(KSData)})

    def _heavy(self) -> Heavy:
        fetch: Callable[[], Heavy] = vars(self)["_fetch"]
        with threads_per_operation():  # inside a build too: the same threads give the same bits
            return fetch()

    def _waiting(self, name: str) -> AOMatrix:
        small: dict[str, Waiting] = vars(self)["_small"]
        return small[name].matrix()

    @property
    def ovlp(self) -> AOMatrix:  # pyright: ignore
        """S."""
        return self._waiting("ovlp")

    @property
    def hcore(self) -> AOMatrix:  # pyright: ignore
        """T + V, Eh."""
        return self._waiting("hcore")

    @property
    def dm_guess(self) -> AOMatrix:  # pyright: ignore
        """Starting density."""
        return self._waiting("dm_guess")

    @property
    def coulomb(self) -> TwoElectron:  # pyright: ignore
        """Operator of J."""
        return self._heavy().coulomb

    @property
    def exchange(self) -> tuple[tuple[float, TwoElectron], ...]:  # pyright: ignore
        """((coefficient, operator), ...) of c_x K."""
        return self._heavy().exchange

    @property
    def grid(self) -> Grid | None:  # pyright: ignore
        """AO values."""
        return self._heavy().grid

    @property
    def nlc(self) -> NonlocalCorrelation | None:  # pyright: ignore
        """Non-local correlation, with its grid."""
        return self._heavy().nlc

    @property
    def coarse(self) -> Callable[[], CoarseGrids | None] | None:  # pyright: ignore
        """The coarse grids of an SCF on two grids."""
        return self._heavy().coarse

    @property
    def dipole(self) -> torch.Tensor:  # pyright: ignore
        """Dipole integrals, [3, nao, nao], bohr."""
        return self._heavy().dipole
