"""Which PySCF objects this package computes as PySCF does: what belongs to an object's energy.

Known classes are accepted, and nothing set on the instance may replace one of their methods: an
unknown change of the energy is refused, not overlooked.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
from pyscf import df, dft, gto, scf
from pyscf.df.df_jk import _DFHF
from pyscf.dft import libxc, rks_symm, uks_symm
from pyscf.dft.numint import NumInt
from pyscf.scf import hf_symm, uhf_symm
from pyscf.scf.smearing import _SmearingSCF
from pyscf.soscf.newton_ah import _CIAH_SOSCF

from deeph_zero.errors import InputError

# ruff: noqa: SLF001  PySCF keeps _numint, _scf, _built and _eri private

_KNOWN = frozenset(
    {
        dft.rks.RKS, dft.uks.UKS, rks_symm.SymAdaptedRKS, uks_symm.SymAdaptedUKS,
        scf.hf.RHF, scf.rhf.RHF, scf.uhf.UHF, hf_symm.SymAdaptedRHF, uhf_symm.SymAdaptedUHF,
    }
)  # fmt: skip

_CLASSES = {
    "_Solvation": ("a solvent model", "give an object without it"),
    "_X2C_SCF": ("a relativistic Hamiltonian (x2c)", "give an object without it"),
    "QMMM": ("external point charges", "put their potential into mf.get_hcore and mf.energy_nuc"),
    "_SGXHF": ("semi-numerical exchange", "use density_fit()"),
    "ROHF": ("restricted open shells", "use UKS"),
    "GHF": ("generalised spin", "use UKS"),
    "DHF": ("a four-component Hamiltonian", "use UKS"),
    "SinglePointScanner": ("a scanner, which has no geometry of its own", "give its mean field"),
}
"""Classes somewhere among the ancestors: what they are, and what helps."""

_PACKAGES = {
    "pyscf.pbc": ("periodic boundary conditions", "give a molecule"),
    "gpu4pyscf": ("tensors on a GPU", "give mf.to_cpu()"),
}

SMEARED = _SmearingSCF
"""Class of objects with smeared occupations, molecules and crystals alike."""

USED = frozenset({"get_hcore", "get_ovlp", "energy_nuc"})
"""Methods that are asked for their result, so that another one on the instance counts."""

_HARMLESS = frozenset(
    {
        "analyze", "callback", "check_convergence", "check_sanity", "dip_moment", "dump_chk",
        "dump_flags", "dump_scf_summary", "get_init_guess", "mulliken_meta", "mulliken_pop",
    }
)  # fmt: skip
"""Methods whose replacement changes the way to the energy, or what is printed, but not it."""


@dataclasses.dataclass(frozen=True)
class Peculiarity:
    """Something of an object's energy that this package does not reproduce.

    Attributes:
        what: Words for it, behind "an object with".
        cure: What to do.
        basic: Whether the object is of another class altogether.
    """

    what: str
    cure: str
    basic: bool = False


def check_supported(mf: Any) -> None:
    """Refuse objects whose energy would differ from the one this package computes.

    Args:
        mf: Any object; a supported one is RKS, UKS, RHF or UHF, with or without ``density_fit``,
            ``newton``, Fermi smearing and point-group symmetry.

    Raises:
        InputError: If it is anything else or carries a setting that is not reproduced.
    """
    if not isinstance(mf, scf.hf.SCF):
        raise InputError(
            "expected a gto.Mole or a PySCF RKS, UKS, RHF or UHF object, got "
            f"{type(mf).__name__}; give mol or mf"
        )
    for found in peculiarities(mf):
        kind = f"{type(mf).__name__} with " if found.basic else "one with "
        raise InputError(
            f"expected a gto.Mole or a plain RKS, UKS, RHF or UHF object, got {kind}{found.what}, "
            f"which is not supported; {found.cure}"
        )


def check_molecule(mol: Any) -> None:
    """Refuse what is no built molecule, or one with integrals of its own.

    Args:
        mol: Any object; a supported one is a built ``gto.Mole``.

    Raises:
        InputError: If it is anything else.
    """
    if not isinstance(mol, gto.Mole):
        raise InputError(f"expected a built gto.Mole, got {type(mol).__name__}; give mf.mol")
    if not mol._built:
        raise InputError("expected a built molecule, got an unbuilt gto.Mole; call mol.build()")
    if not mol.natm:
        raise InputError("expected a molecule with atoms, got none; give mol.atom and call build()")
    for found in _of_molecule(mol):
        raise InputError(
            f"expected a plain gto.Mole, got one with {found.what}, which is not supported; "
            f"{found.cure}"
        )


def energy_object(mf: Any) -> Any:
    """The object whose energy is meant: of a second-order solver the one it solves.

    Args:
        mf: Mean-field object, perhaps from ``newton()``.

    Returns:
        It, or the object inside it.
    """
    return mf._scf if isinstance(mf, _CIAH_SOSCF) else mf


def smearing_of(mf: Any) -> float:
    """Width of an object's Fermi occupations.

    Args:
        mf: Any object.

    Returns:
        Eh; 0 where orbitals are filled in order, as of everything that is no mean-field object.
    """
    if not isinstance(mf, _SmearingSCF) or not (mf.sigma and mf.smearing_method):
        return 0.0
    return float(mf.sigma)


def peculiarities(mf: Any) -> Iterator[Peculiarity]:
    """Everything of an object's energy that this package does not reproduce, worst first.

    Methods in :data:`USED` are left out: their results can be asked for.

    Args:
        mf: Mean-field object.

    Yields:
        What it is, and what helps.
    """
    yield from _of_class(mf)
    yield from _of_smearing(mf)
    yield from _of_solver(mf)
    plain = energy_object(mf)
    yield from _shadows(plain, "mf", _HARMLESS | USED)
    yield from _of_molecule(plain.mol)
    yield from _of_occupation(plain)
    yield from _of_fitting(plain)
    if isinstance(plain, dft.rks.KohnShamDFT):
        yield from _of_functional(plain)


def shadows(mf: Any, name: str) -> Iterator[Peculiarity]:
    """Methods set on an object itself, which may change its energy.

    Args:
        mf: Mean-field object.
        name: What to call it in the message.

    Returns:
        What stands in front of a method of the class, and what helps.
    """
    return _shadows(mf, name, _HARMLESS)


def _of_class(mf: Any) -> Iterator[Peculiarity]:
    if _undecorated(type(mf)) in _KNOWN:
        return
    ancestors = type(mf).__mro__
    names = {c.__name__ for c in ancestors}
    known = [words for name, words in _CLASSES.items() if name in names]
    known += [
        words
        for package, words in _PACKAGES.items()
        if any(c.__module__.startswith(package) for c in ancestors)
    ]
    unknown = ("a class of its own", "use a plain RKS or UKS of PySCF")
    for what, cure in known or [unknown]:
        yield Peculiarity(what, cure, basic=True)


def _undecorated(kind: type) -> type:
    """The class that ``density_fit()``, ``newton()`` and ``smearing()`` were called on."""
    decorators = _DFHF | _CIAH_SOSCF | _SmearingSCF
    while len(kind.__bases__) == 2 and issubclass(kind.__bases__[0], decorators):
        kind = kind.__bases__[1]
    return kind


def _of_solver(mf: Any) -> Iterator[Peculiarity]:
    """What was set on a second-order solver after it was made: PySCF itself ignores most of it."""
    inner = energy_object(mf)
    if inner is mf:
        return
    same = {key for key, value in vars(inner).items() if vars(mf).get(key) is value}
    for found in _shadows(mf, "mf", _HARMLESS | same):
        yield dataclasses.replace(found, cure="set it before newton() is called")
    for name in ("mol", "xc", "nlc", "disp", "nelec", "irrep_nelec", "grids", "nlcgrids"):
        one, other = getattr(mf, name, None), getattr(inner, name, None)
        if one is not other and one != other:
            yield Peculiarity(
                f"mf.{name} set behind newton()", f"set {name} before newton() is called"
            )


def _shadows(thing: Any, name: str, allowed: frozenset[str]) -> Iterator[Peculiarity]:
    """Instance attributes that stand in front of a method of the class."""
    for key in sorted(set(vars(thing)) - allowed):
        original = inspect.getattr_static(type(thing), key, None)
        if key.startswith("init_guess") or not isinstance(original, _METHOD):
            continue
        if key == "get_occ":
            what = f"{name}.get_occ of its own (frac_occ, mom_occ, float_occ or another rule)"
        else:
            what = f"{name}.{key} of its own"
        yield Peculiarity(what, f"give an object without it (del {name}.{key})")


_METHOD = (type(lambda: None), staticmethod, classmethod, property, type(len))


def _of_molecule(mol: Any) -> Iterator[Peculiarity]:
    if not isinstance(mol, gto.Mole):  # its class says what it is, or nothing does
        return
    try:
        _ = mol.nelec
    except RuntimeError:  # charge or spin was set after the molecule was built
        yield Peculiarity(
            f"charge {mol.charge} and spin {mol.spin}, which leave half an electron to each spin",
            "set mol.charge and mol.spin (2S) that fit, and call mol.build()",
        )
    yield from _shadows(mol, "mol", frozenset({"energy_nuc"}))
    omega = float(mol._env[gto.PTR_RANGE_OMEGA])
    if omega:
        yield Peculiarity(
            f"mol.omega {omega:g} in every two-electron integral",
            "set mol.omega = 0 and name a range-separated functional",
        )


def _of_smearing(mf: Any) -> Iterator[Peculiarity]:
    if not smearing_of(mf):
        return
    cure = "use scf.addons.smearing(mf, sigma, method='fermi', fix_spin=True)"
    if mf.smearing_method.lower() != "fermi":
        yield Peculiarity(f"{mf.smearing_method} smearing", cure)
    if mf.mu0 is not None:
        yield Peculiarity("a chemical potential of its own (mf.mu0)", cure)
    if isinstance(mf, scf.uhf.UHF) and not mf.fix_spin:
        yield Peculiarity("one chemical potential for both spins", cure)
    if isinstance(mf, _CIAH_SOSCF):
        yield Peculiarity("smearing in newton()", "leave one of them out")


def _of_occupation(mf: Any) -> Iterator[Peculiarity]:
    given, wanted = getattr(mf, "_nelec", None), tuple(map(int, mf.mol.nelec))
    spins = isinstance(mf, scf.uhf.UHF | scf.rohf.ROHF)
    if given is not None and spins and tuple(given) != wanted:
        yield Peculiarity(
            f"mf.nelec {tuple(given)} for a molecule with {wanted}",
            "set mol.charge and mol.spin, and leave mf.nelec alone",
        )
    if getattr(mf, "irrep_nelec", None):
        yield Peculiarity(
            f"occupations by symmetry (mf.irrep_nelec {mf.irrep_nelec})", "clear mf.irrep_nelec"
        )


def _of_fitting(mf: Any) -> Iterator[Peculiarity]:
    with_df = getattr(mf, "with_df", None)
    if with_df:
        if type(with_df) is not df.DF:
            yield Peculiarity(
                f"density fitting by {type(with_df).__name__}, got {type(with_df).__name__} for "
                "pyscf.df.DF",
                "use density_fit()",
            )
            return
        yield from _shadows(with_df, "mf.with_df", frozenset())
        if with_df._cderi is not None and with_df.auxmol is not None:
            places = with_df.auxmol.atom_coords()
            if places.shape != mf.mol.atom_coords().shape or _moved(places, mf.mol):
                yield Peculiarity("a fitted tensor of another geometry", _RESET)
    elif getattr(mf, "_eri", None) is not None and not _is_of_molecule(mf._eri, mf.mol):
        yield Peculiarity(
            "two-electron integrals of its own (mf._eri)",
            "leave mf._eri to PySCF (mf.reset(mf.mol))",
        )


_RESET = "call mf.reset(mf.mol) after the molecule was changed"


def _moved(places: np.ndarray, mol: gto.Mole) -> bool:
    return bool(np.abs(places - mol.atom_coords()).max() > 1e-6)


def _is_of_molecule(eri: Any, mol: gto.Mole) -> bool:
    """Whether packed integrals, which PySCF keeps after a run, are the molecule's own."""
    nao = int(mol.nao_nr())
    pairs = nao * (nao + 1) // 2
    eri = np.asarray(eri)
    if eri.size not in (pairs * (pairs + 1) // 2, pairs**2, nao**4):
        return False
    symmetry = {pairs**2: "s4", nao**4: "s1"}.get(eri.size, "s8") if nao > 1 else "s1"
    own = mol.intor("int2e", aosym=symmetry)
    return bool(np.abs(own.ravel() - eri.ravel()).max() < 1e-10)


def _of_functional(mf: Any) -> Iterator[Peculiarity]:
    numint = mf._numint
    if type(numint) is not NumInt or "eval_xc" in vars(numint) or "eval_xc_eff" in vars(numint):
        yield Peculiarity("a custom functional (define_xc_)", "use a libxc name")
    else:
        # nothing lives on an untouched one: all of its settings are the class's
        for key in sorted(set(vars(numint)) - {"omega", "libxc"}):
            yield Peculiarity(f"mf._numint.{key} of its own", "leave mf._numint alone")
    if not isinstance(mf.xc, str):
        yield Peculiarity(f"xc {mf.xc!r}, which is no text", "name a functional of libxc")
    if getattr(numint, "libxc", libxc) is not libxc:
        yield Peculiarity("functionals of another library than libxc", "leave _numint.libxc alone")
    if getattr(numint, "omega", None) is not None:
        yield Peculiarity(
            f"its own omega {numint.omega:g}", "name the functional with that omega in xc"
        )
    if mf.small_rho_cutoff > 1e-20 and mf.grids.coords is None:
        yield Peculiarity(f"small_rho_cutoff {mf.small_rho_cutoff:g}", "set it to 0")
    for name in ("grids", "nlcgrids"):
        if mf.small_rho_cutoff <= 1e-20 and _is_stale(getattr(mf, name), mf.mol):
            yield Peculiarity(f"mf.{name} of another geometry", _RESET)


def _is_stale(grids: Any, mol: gto.Mole) -> bool:
    """Whether the points were made around other places: shells of points centre on their atom."""
    owner = grids.atm_idx
    if grids.coords is None or owner is None or len(owner) != len(grids.coords):
        return False
    if owner.max(initial=-1) + 1 != mol.natm:
        return True
    own = owner >= 0
    counts = np.bincount(owner[own], minlength=mol.natm)
    sums = [np.bincount(owner[own], row, mol.natm) for row in grids.coords[own].T]
    return bool((counts == 0).any()) or _moved(np.stack(sums, 1) / counts[:, None], mol)
