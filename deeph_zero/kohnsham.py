"""``dz.KohnSham`` and ``dz.KohnShamBatch``: Kohn-Sham layers of PySCF objects."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from deeph_zero.ks.batch import KSBatch
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.occupation import DEGENERACY_TOL

if TYPE_CHECKING:
    from deeph_zero.integrals.info import KSInfo
    from deeph_zero.ks.protocol import KSData


class KohnSham(KohnShamLayer):
    """Differentiable Kohn-Sham theory of one molecule; see :class:`KohnShamLayer`.

    Examples:
        >>> ks = dz.KohnSham.from_pyscf(mol, xc="pbe")
        >>> result = ks.scf()
        >>> energy, fock = ks(ks.density(result.fock))
    """

    def __init__(self, data: "KSData", info: "KSInfo", **settings: Any) -> None:
        """Bind integrals and their description; use :meth:`from_pyscf`.

        Args:
            data: Integrals, grid and functional.
            info: What they were made with.
            **settings: Keywords of :class:`KohnShamLayer`.
        """
        super().__init__(data, **settings)
        self.info = info

    @classmethod
    def from_pyscf(
        cls,
        mol_or_mf: Any,
        *,
        xc: str = "pbe",
        density_fit: bool = True,
        auxbasis: str | None = None,
        grid_level: int = 3,
        unrestricted: bool | None = None,
        device: str = "cpu",
        break_symmetry: bool = False,
        smearing: float = 0.0,
        **limits: Any,
    ) -> "KohnSham":
        """Integrals, grid and functional from PySCF.

        Args:
            mol_or_mf: A built ``gto.Mole``, or an RKS, UKS, RHF or UHF object, which then decides
                functional, fitting, grid and spin treatment.
            xc: Functional, any string PySCF parses.
            density_fit: Fit the two-electron integrals; False uses exact four-centre ones.
            auxbasis: Fitting basis; None is what PySCF picks for this basis and functional.
            grid_level: PySCF's, 0 to 9.
            unrestricted: UKS; None means "if the molecule has unpaired electrons".
            device: Where the tensors live.
            break_symmetry: Perturb the starting density so that spatial and spin symmetry may
                break, and keep integer occupations under degeneracy.
            smearing: Width (Eh) of Fermi occupations; each spin has its own chemical potential.
            **limits: ``ao_memory_mb`` (AO values kept), ``max_memory_mb`` (two-electron
                integrals), ``engine`` ("auto", "torch" or "libxc"), ``ao_engine`` ("auto",
                "libcint" or "torch"), ``nlc_grid_level`` (of VV10's grid, 3 as in PySCF).

        Returns:
            The layer; ``info`` tells what was resolved.

        Raises:
            InputError: If the functional, basis or object is not supported.
            ComputationError: If the integrals do not fit in memory.
        """
        from deeph_zero.integrals.system import ks_data  # PySCF is heavy

        data, info = ks_data(
            mol_or_mf,
            xc=xc,
            density_fit=density_fit,
            auxbasis=auxbasis,
            grid_level=grid_level,
            unrestricted=unrestricted,
            device=device,
            break_symmetry=break_symmetry,
            **limits,
        )
        tol = 0.0 if break_symmetry else DEGENERACY_TOL
        return cls(data, info, degeneracy_tol=tol, smearing=smearing)

    @classmethod
    def without_builds(
        cls,
        mol: Any,
        *,
        xc: str = "pbe",
        density_fit: bool = True,
        auxbasis: str | None = None,
        unrestricted: bool | None = None,
        device: str = "cpu",
        break_symmetry: bool = False,
    ) -> "KohnSham":
        """A layer for orbitals, densities and dipoles only: no two-electron integral, no grid.

        Args:
            mol: A built ``gto.Mole``.
            xc: As in :meth:`from_pyscf`; nothing of it is evaluated.
            density_fit: As in :meth:`from_pyscf`.
            auxbasis: As in :meth:`from_pyscf`.
            unrestricted: As in :meth:`from_pyscf`.
            device: Where the tensors live.
            break_symmetry: Keep integer occupations under degeneracy.

        Returns:
            The layer; a Fock build raises ComputationError.

        Raises:
            InputError: If the functional or fitting set is not supported.
        """
        from deeph_zero.integrals.bare import bare_data  # PySCF is heavy

        data, info = bare_data(
            mol,
            xc=xc,
            density_fit=density_fit,
            auxbasis=auxbasis,
            unrestricted=mol.spin != 0 if unrestricted is None else unrestricted,
            device=device,
        )
        return cls(data, info, degeneracy_tol=0.0 if break_symmetry else DEGENERACY_TOL)


class KohnShamBatch(KSBatch):
    """Differentiable Kohn-Sham theory of several molecules in one call; see :class:`KSBatch`.

    Examples:
        >>> batch = dz.KohnShamBatch.from_pyscf([water, methanol], xc="pbe")
        >>> results = batch.scf()
        >>> energies, focks = batch([result.dm for result in results])
    """

    @classmethod
    def from_pyscf(
        cls, mols_or_mfs: Iterable[Any], *, strategy: str | None = None, **settings: Any
    ) -> "KohnShamBatch":
        """Integrals, grids and functionals from PySCF.

        Args:
            mols_or_mfs: Built ``gto.Mole`` or mean-field objects.
            strategy: "merged" or "padded"; None chooses by the device.
            **settings: Keywords of :meth:`KohnSham.from_pyscf`, for all of them.

        Returns:
            The batch; ``layers`` holds the single molecules.

        Raises:
            InputError: If there is none, or one of them is not supported.
        """
        layers = [KohnSham.from_pyscf(one, **settings) for one in mols_or_mfs]
        return cls(layers, strategy=strategy)
