"""An SCF's result whose derivatives are methods; it holds no integrals."""

import copy
import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.response.nuclear import FockGradient
from deeph_zero.ks.scf.result import SCFResult


@runtime_checkable
class Differentiates(Protocol):
    """A layer that differentiates its results, as :class:`~deeph_zero.kohnsham.KohnSham`."""

    def polarizability(self, result: Any) -> Tensor:
        """Static dipole polarisability, [3, 3], bohr³."""
        ...

    def dipole_derivatives(self, result: Any) -> Tensor:
        """Derivatives of the dipole moment by nuclear positions, [natm, 3, 3]."""
        ...

    def fock_gradient(self, result: Any, *, atoms: Any) -> FockGradient:
        """Derivatives of F and S by nuclear positions."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class MoleculeResult(SCFResult):
    """An SCF of one molecule; derivatives of a converged one are methods.

    Results of many molecules can be kept: they hold no integrals. Copies are differentiated as the
    result is. Where it is pickled the layer does not go along: a layer made anew takes what
    arrives, as in ``ks.polarizability(result)``.

    Attributes:
        made_by: The layer it was made with, as long as there is one.
        again: Makes that layer once more.
    """

    made_by: Callable[[], Differentiates | None] = dataclasses.field(repr=False)
    again: Callable[[], Differentiates] | None = dataclasses.field(repr=False)

    @classmethod
    def of(
        cls, found: SCFResult, layer: Differentiates, again: Callable[[], Differentiates] | None
    ) -> "MoleculeResult":
        """A result whose methods ask its layer.

        Args:
            found: The SCF.
            layer: Made it; it is not held.
            again: Makes that layer once more.

        Returns:
            The same numbers.
        """
        parts = {f.name: getattr(found, f.name) for f in dataclasses.fields(SCFResult)}
        return cls(**parts, made_by=weakref.ref(layer), again=again)

    @property
    def ks(self) -> Differentiates:
        """The layer; computed once more if it was let go.

        Raises:
            InputError: If it was let go and nothing says how it was made, or this was pickled.
        """
        ks = self.made_by()
        if ks is not None:
            return ks
        if self.made_by is _elsewhere:
            raise InputError(
                "expected the layer that made this result, it does not go along where a result is "
                "pickled; make one (KohnSham.from_pyscf) and give it the result, as in "
                "ks.polarizability(result)"
            )
        if self.again is None:
            raise InputError(
                "expected the layer that made this result, it was let go; keep it as long as its "
                "results are used"
            )
        return self.again()

    def polarizability(self) -> Tensor:
        """See :meth:`~deeph_zero.kohnsham.KohnSham.polarizability`."""
        return self.ks.polarizability(self)

    def dipole_derivatives(self) -> Tensor:
        """See :meth:`~deeph_zero.kohnsham.KohnSham.dipole_derivatives`."""
        return self.ks.dipole_derivatives(self)

    def fock_gradient(self, *, atoms: Any = None) -> FockGradient:
        """See :meth:`~deeph_zero.kohnsham.KohnSham.fock_gradient`."""
        return self.ks.fock_gradient(self, atoms=atoms)

    def __copy__(self) -> "MoleculeResult":
        """A result of the same layer."""
        return dataclasses.replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "MoleculeResult":
        """The same with matrices of its own."""
        return dataclasses.replace(self, **copy.deepcopy(self._plain(), memo))

    def __reduce__(self) -> tuple[Any, ...]:
        """Elsewhere there is no layer."""
        plain = self._plain() | {"made_by": _elsewhere, "again": None}
        return functools.partial(MoleculeResult, **plain), ()

    def _plain(self) -> dict[str, Any]:
        """What can be sent."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(SCFResult)}


def _elsewhere() -> None:
    """The layer of a result that was pickled."""
