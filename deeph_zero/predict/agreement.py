"""Whether a PySCF molecule or mean-field object is the problem that a model was trained on.

Every answer is in words that name what differs; an empty one means the same energy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pyscf import gto, scf
from pyscf.data import elements
from pyscf.dft import gen_grid

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.calculation import level_of, one_electron_matrix, same_functional
from deeph_zero.integrals.corrections import corrections_in
from deeph_zero.integrals.libxc import describe
from deeph_zero.integrals.mole import auxbasis_label, auxbasis_name
from deeph_zero.integrals.supported import energy_object, peculiarities, smearing_of
from deeph_zero.integrals.two_electron import exchange_terms
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule

_SAME = 1e-8
"""Largest difference between one-electron matrices of one basis set at one geometry."""


def check_startable(mf: Any) -> None:
    """Refuse objects that no density of a molecule's spatial orbitals can start.

    Args:
        mf: Any object.

    Raises:
        InputError: If it is no RKS, UKS, ROKS or Hartree-Fock counterpart of a molecule.
    """
    if isinstance(mf, scf.hf.RHF | scf.uhf.UHF) and isinstance(mf.mol, gto.Mole):
        return
    raise InputError(
        "expected an RKS, UKS or ROKS object of a molecule (or a Hartree-Fock counterpart), got "
        f"{type(mf).__name__}; no other one starts from this density"
    )


def check_elements(molecule: Molecule, known: Sequence[int]) -> None:
    """Refuse a molecule of elements that a model does not know.

    Args:
        molecule: The structure.
        known: Atomic numbers of the model's elements.

    Raises:
        InputError: If there are others.
    """
    unknown = sorted({int(z) for z in molecule.numbers} - set(known))
    if unknown:
        raise InputError(
            f"{molecule.where}expected elements the model was trained on ({_symbols(known)}), got "
            f"{_symbols(unknown)}; train a model on structures that contain them"
        )


def _symbols(numbers: Sequence[int]) -> str:
    return ", ".join(elements.ELEMENTS[z] for z in numbers)


def other_electrons(mol: gto.Mole, ours: gto.Mole) -> str:
    """How nuclei and electrons of a molecule differ from those the model would give it.

    Args:
        mol: The user's molecule.
        ours: The same atoms in the model's basis.

    Returns:
        Words; empty where nothing differs.
    """
    pairs = zip(mol.atom_charges().tolist(), ours.atom_charges().tolist(), strict=True)
    for k, (theirs, wanted) in enumerate(pairs):
        if theirs != wanted:
            core = _core(ours, k)
            return (
                f"{mol.atom_symbol(k)} (atom {k + 1}) has nuclear charge {theirs:g} with "
                f"{_words_of_core(_core(mol, k))}, not {wanted:g} with {_words_of_core(core)}; "
                + (f"build it with ecp={ours.basis!r}" if core else "build it without ecp")
            )
    if tuple(mol.nelec) != tuple(ours.nelec):
        return (
            f"it has {tuple(mol.nelec)} electrons, not the {tuple(ours.nelec)} of charge "
            f"{ours.charge} and spin {ours.spin}; set mol.charge and mol.spin"
        )
    return ""


def _core(mol: gto.Mole, atom: int) -> int:
    return int(mol.atom_nelec_core(atom))


def _words_of_core(electrons: int) -> str:
    return f"an ECP for {electrons} electrons" if electrons else "no ECP"


def other_functions(mol: gto.Mole, ours: gto.Mole) -> str:
    """How the basis functions of a molecule differ from the model's.

    Functions are compared, not names: two names can mean one set and the other way round.

    Args:
        mol: The user's molecule.
        ours: The same atoms in the model's basis.

    Returns:
        Words; empty where the functions are the same in the same order.
    """
    matrices = [m.intor_symmetric("int1e_ovlp") for m in (ours, mol)]
    one, other = matrices
    if one.shape == other.shape and np.abs(one - other).max() < _SAME:
        return ""
    if bool(mol.cart) != bool(ours.cart):
        return f"its functions are {_kind(mol)}, not {_kind(ours)} (cart={bool(mol.cart)})"
    for k in range(ours.natm):
        label = f"{ours.atom_symbol(k)} (atom {k + 1})"
        sizes = [_shells(m, k) for m in (mol, ours)]
        if sizes[0] != sizes[1]:
            return f"{label} has {_composition(sizes[0])} functions, not {_composition(sizes[1])}"
        contents = [_contractions(m, k) for m in (mol, ours)]
        if contents[0] != contents[1]:
            same = sorted(contents[0]) == sorted(contents[1])
            how = "in another order" if same else "with other exponents or coefficients"
            return f"{label} has its functions {how}"
    return "its functions stand in another order, or on other places"


def _kind(mol: gto.Mole) -> str:
    return "Cartesian" if mol.cart else "spherical"


def _shells(mol: gto.Mole, atom: int) -> list[int]:
    """Angular momentum of every contracted function set of an atom."""
    return [
        int(mol.bas_angular(k)) for k in mol.atom_shell_ids(atom) for _ in range(mol.bas_nctr(k))
    ]


def _contractions(mol: gto.Mole, atom: int) -> list[tuple]:
    """Momentum, exponents and coefficients of every shell, as they compare equal."""
    return [
        (
            int(mol.bas_angular(k)),
            *mol.bas_exp(k).round(8).tolist(),
            *mol.bas_ctr_coeff(k).round(6).ravel().tolist(),
        )
        for k in mol.atom_shell_ids(atom)
    ]


def _composition(shells: list[int]) -> str:
    """Three s and two p sets are "3s2p"."""
    return "".join(f"{shells.count(l)}{'spdfghiklm'[l]}" for l in sorted(set(shells)))


def other_nuclei(mol: gto.Mole, ours: gto.Mole) -> str:
    """How the potential of the nuclei differs, where functions and charges are the same.

    Args:
        mol: The user's molecule.
        ours: The same atoms in the model's basis.

    Returns:
        Words; empty where nothing differs.
    """
    models = [set(m._atm[:, gto.NUC_MOD_OF].tolist()) - {gto.NUC_ECP} for m in (mol, ours)]  # noqa: SLF001
    if models[0] != models[1]:
        return "its nuclei are no points (mol.nucmod)"
    if mol._pseudo:  # noqa: SLF001
        return "it has GTH pseudopotentials (mol.pseudo)"
    if mol.has_ecp() and np.abs(_ecp(mol) - _ecp(ours)).max() >= _SAME:
        return "it has another effective core potential of the same size"
    # a method of its own, or a value that was set
    off = max(_repulsion_off(mol.energy_nuc(), mol), _repulsion_off(mol.enuc, mol))
    return f"its energy_nuc is {off:.2g} Eh away from its nuclei's" if off > _SAME else ""


def _repulsion_off(given: Any, mol: gto.Mole) -> float:
    return abs(float(given) - float(gto.mole.classical_coulomb_energy(mol)))


def _ecp(mol: gto.Mole) -> np.ndarray:
    return mol.intor_symmetric("ECPscalar")


def check_molecule_is(mol: gto.Mole, ours: gto.Mole, basis: str) -> None:
    """Refuse a molecule that is not the one the model would build.

    Args:
        mol: The user's molecule.
        ours: The same atoms in the model's basis.
        basis: The model's basis.

    Raises:
        InputError: If anything of its energy differs; it is named.
    """
    functions = other_functions(mol, ours)
    if functions:
        name = label_of_basis(mol)
        got = name if name != repr(basis) else "other functions of that name"
        raise InputError(
            f"expected a molecule in the model's basis {basis!r}, got {got}: {functions}; build "
            f"it with gto.M(..., basis={basis!r}, cart={bool(ours.cart)})"
        )
    difference = other_electrons(mol, ours) or other_nuclei(mol, ours)
    if difference:
        raise InputError(f"expected a molecule as the model builds it, got another: {difference}")


def label_of_basis(mol: gto.Mole) -> str:
    """A molecule's basis in few words: its name, or that it has none."""
    given = list(mol.basis.values()) if isinstance(mol.basis, dict) else [mol.basis]
    if not all(isinstance(value, str) for value in given):
        return "functions of its own"
    names = list(dict.fromkeys(given))
    return " and ".join(map(repr, names))


def differences(mf: Any, method: Method, ours: gto.Mole, *, numerical: bool) -> list[str]:
    """What of a mean-field object's energy is not the model's.

    Args:
        mf: The user's object; its electrons are those of ``ours``.
        method: The model's.
        ours: The object's atoms in the model's basis.
        numerical: Also the grid, which changes an energy but hardly a starting density.

    Returns:
        Words for each.
    """
    # restricted open shells and second-order solvers start from the same density as any other
    found = [f"it has {one.what}" for one in peculiarities(mf) if one.what not in _AS_GOOD]
    if smearing_of(mf):
        found.append(f"it has smeared occupations (sigma {smearing_of(mf):g})")
    plain = energy_object(mf)
    functions = other_functions(plain.mol, ours)
    if functions:
        found.append(f"basis is {label_of_basis(plain.mol)}, not {ours.basis!r}: {functions}")
    else:
        found += [words for words in [other_nuclei(plain.mol, ours)] if words]
    found += _own_terms(plain)
    method_words = _of_method(plain, method)
    if not functions and not method_words:
        method_words = _of_fitting(plain, method, ours)
    found += method_words
    if numerical and not method_words:
        found += _of_grid(plain, method)
    return found


_AS_GOOD = frozenset({"restricted open shells"})


def _own_terms(mf: Any) -> list[str]:
    """One-electron terms and repulsion that are set on the object, and are not the plain ones."""
    found = []
    for name, plain in (("get_hcore", scf.hf.get_hcore), ("get_ovlp", scf.hf.get_ovlp)):
        if name in vars(mf):
            off = float(np.abs(one_electron_matrix(mf, name) - plain(mf.mol)).max())
            if off > _SAME:
                found.append(f"mf.{name} of its own is up to {off:.2g} away from the molecule's")
    off = _repulsion_off(mf.energy_nuc(), mf.mol) if "energy_nuc" in vars(mf) else 0.0
    if off > _SAME:
        found.append(f"mf.energy_nuc of its own is {off:.2g} Eh away from the molecule's")
    return found


def _of_method(mf: Any, method: Method) -> list[str]:
    xc = getattr(mf, "xc", "hf")
    try:
        same = same_functional(describe(method.xc), describe(str(xc), corrections_in(mf)))
    except InputError as error:
        return [f"xc {xc!r} is none of this package's ({error})"]
    if same:
        return []
    if str(xc).casefold() != method.xc.casefold():
        return [f"xc is {xc!r}, not {method.xc!r}"]
    added = ", ".join(f"mf.{name} {getattr(mf, name, None)!r}" for name in ("disp", "nlc"))
    return [f"xc is {xc!r} with {added}, not {method.xc!r} as its name says"]


def _of_fitting(mf: Any, method: Method, ours: gto.Mole) -> list[str]:
    xc, with_df = getattr(mf, "xc", "hf"), getattr(mf, "with_df", None)
    expected = "no density fitting"
    if method.density_fit:
        expected = auxbasis_name(ours, method.xc, method.auxbasis)
    fitting = "no density fitting"
    if with_df:
        auxbasis = with_df.auxbasis
        fitting = (
            auxbasis_name(mf.mol, xc, auxbasis)
            if auxbasis is None or isinstance(auxbasis, str)
            else auxbasis_label(mf.mol, auxbasis)
        )
    if fitting != expected:
        return [f"fitting is {fitting!r}, not {expected!r}"]
    if not with_df:
        return []
    if with_df._cderi is not None and with_df.auxmol is None:  # noqa: SLF001  filled by hand
        return ["fitting is by a tensor of its own (mf.with_df._cderi)"]
    if mf.only_dfj and exchange_terms(describe(method.xc)):
        return ["fitting is for Coulomb alone (only_dfj)"]
    return []


def _of_grid(mf: Any, method: Method) -> list[str]:
    found: list[str] = []
    if describe(method.xc).kind == "HF":
        return found
    for name, grids, level in (
        ("grids", mf.grids, method.grid_level),
        ("nlcgrids", mf.nlcgrids, method.nlc_grid_level),
    ):
        if name == "nlcgrids" and not mf.do_nlc():
            continue
        theirs = level_of(grids)
        if theirs is None:
            found.append(f"mf.{name} is a grid of its own, not level {level}")
        elif theirs != level:
            found.append(f"mf.{name}.level is {theirs}, not {level}")
        elif _has_other_points(grids):
            found.append(f"mf.{name} has other points or weights than its level {level}")
    return found


def _has_other_points(grids: Any) -> bool:
    """Whether a built grid was changed behind its settings."""
    if grids.coords is None:
        return False
    plain = gen_grid.Grids(grids.mol)
    plain.level = grids.level
    plain.build(sort_grids=False)
    ours, theirs = (
        np.sort(weights[weights != 0])  # padding has none, and the order is free
        for weights in (plain.weights, np.asarray(grids.weights))
    )
    return ours.shape != theirs.shape or bool(np.abs(ours - theirs).max(initial=0.0) > _SAME)


def check_starts(ours: Method, theirs: Method) -> None:
    """See whether densities of one method are starts for SCFs of another.

    Args:
        ours: The model's.
        theirs: The SCF's.

    Raises:
        InputError: If functional, basis or fitting differ.
    """
    for key in ("xc", "basis", "density_fit", "auxbasis"):
        own, wanted = (getattr(m, key) for m in (ours, theirs))
        if own != wanted and not (isinstance(own, str) and own.lower() == wanted):
            option, model = argument(key), argument("model")
            raise InputError(
                f"{model}: expected a model of {option} {wanted}, got one of {own}; give "
                f"{option} {own}, or leave {model} out"
            )
