"""``dz.KohnShamBatch``: the Kohn-Sham layers of several PySCF objects, called as one."""

from collections.abc import Sequence
from typing import Any

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.crystal import is_periodic
from deeph_zero.ks.batch.scf_in_step import solve_batch
from deeph_zero.ks.facade import BatchFacade
from deeph_zero.ks.given import check_count, check_start, scf_settings
from deeph_zero.ks.scf.molecule_result import MoleculeResult
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.types import GivenMatrices


class KohnShamBatch(BatchFacade[KohnSham]):
    """Several :class:`KohnSham` as one; see :class:`~deeph_zero.ks.batch.ks_batch.KSBatch`.

    Examples:
        >>> batch = dz.KohnShamBatch.from_pyscf([water, methanol], xc="pbe")
        >>> results = batch.scf()
        >>> energies, focks = batch([result.dm for result in results])
    """

    @classmethod
    def from_pyscf(
        cls, mols_or_mfs: Any, *, strategy: str | None = None, **settings: Any
    ) -> "KohnShamBatch":
        """Integrals, grids and functionals from PySCF.

        Args:
            mols_or_mfs: Several built ``gto.Mole`` or mean-field objects.
            strategy: "merged" or "padded"; None chooses by the device.
            **settings: Keywords of :meth:`KohnSham.from_pyscf`, for all of them.

        Returns:
            The batch; ``layers`` holds the single molecules.

        Raises:
            InputError: If there is none, or one of them is not supported.
        """
        try:
            given = list(mols_or_mfs)
        except TypeError:
            raise InputError(
                f"expected several molecules or objects, got one {type(mols_or_mfs).__name__}; "
                "put it into a list"
            ) from None
        for one in given:
            if is_periodic(one):
                raise InputError(
                    f"expected molecules in a batch, got a crystal ({type(one).__name__}); take "
                    "crystals one by one (KohnSham.from_pyscf)"
                )
        layers = [KohnSham.from_pyscf(one, **settings) for one in given]
        return cls(layers, strategy=strategy)

    def scf(
        self,
        dm0s: GivenMatrices | None = None,
        *,
        first_builds: Sequence[FockBuild | None] | None = None,
        **settings: Any,
    ) -> list[MoleculeResult]:
        """Self-consistent field of every molecule; each has its own DIIS and stops by itself.

        Args:
            dm0s: Starting density matrices; None starts from the setting ``init_guess``.
            first_builds: The builds at ``dm0s``, of those molecules where they were made already.
            **settings: Fields of :class:`~deeph_zero.ks.scf.result.SCFSettings`.

        Returns:
            The last iterates, in order; non-convergence is not an exception. Their methods give
            derivatives, as those of :meth:`KohnSham.scf` do.

        Raises:
            InputError: If their number is not the number of molecules, one is not of its molecule,
                there is no setting of that name, its value is of another type or out of range, or
                nothing would read it.
        """
        built, smeared = first_builds is not None, any(one.smearing > 0 for one in self.layers)
        check_start(settings, start=dm0s is not None, built=built, smeared=smeared)
        starts = None if dm0s is None else self.to_layers(dm0s)
        chosen = scf_settings(SCFSettings, settings)
        firsts = None
        if first_builds is not None:
            check_count(first_builds, len(self))
            pairs = zip(self.layers, first_builds, strict=True)
            firsts = [one.build_to_layer(built) for one, built in pairs]
        found = self.from_layer_records(solve_batch(self.batch, starts, chosen, firsts))
        pairs = zip(found, self.layers, strict=True)
        return [MoleculeResult.of(one, ks, ks._again) for one, ks in pairs]  # noqa: SLF001
