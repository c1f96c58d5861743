"""What an xc string means, and functionals evaluated by libxc through PySCF."""

import contextlib
import dataclasses
import difflib
import io
import logging
import re
from collections.abc import Hashable
from functools import lru_cache
from typing import Literal, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from pyscf import lib
from pyscf.dft import libxc, numint
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.integrals.corrections import Corrections, corrections_of, split
from deeph_zero.ks.parallel.sharing import working_alone
from deeph_zero.ks.protocol import NVAR, Functional, XCKind
from deeph_zero.ks.xc import registry
from deeph_zero.types import Features, GridScalar

_log = logging.getLogger("deeph_zero")

Engine = Literal["auto", "torch", "libxc"]

POTENTIAL_ONLY = frozenset(
    {
        "GGA_X_LB",
        "GGA_X_LBM",
        "LDA_XC_TIH",
        "MGGA_X_2D_PRHG07_PRP10",
        "MGGA_X_BJ06",
        "MGGA_X_RPP09",
        "MGGA_X_TB09",
    }
)
"""libxc 7 functionals without an energy; asking libxc for one can end the process."""

_LOW_DIMENSIONAL = re.compile(r"_[12]D(_|$)")
_KINETIC = re.compile(r"^(LDA|GGA|MGGA)_K_")
_YUKAWA = re.compile(r"^HYB_(GGA_XC_(CAMY|LCY)_|LDA_XC_BN05$)")
_MADE_FOR_DISPERSION = re.compile(r"^(HYB_)?M?GGA_(XC|X|C)_\w+(_D\d?|_3C|F22D)$")
_DISPERSION_SUFFIX = re.compile(r"((^|_)(g?d|ts|mbd|xdm|nl)|g?d[234](bj|zero|op)?)$")
_NICKNAMES = {"lb94": "gga_x_lb", "tih": "lda_xc_tih", "tb09": "mgga_x_tb09", "mbj": "mgga_x_tb09"}
_LONGEST = 400
"""Characters; the longest definitions by their parts have about a hundred."""
_LARGEST = 10
"""Coefficients of functionals are about 1; with much larger ones no SCF has a meaning."""
_UNDERSCORE = re.compile(r"(?<![\w.])\d[\d.]*_[\d_.]*\s*\*|\*\s*\d[\d.]*_\d")
"""``1_0`` before or behind a product: a number to Python, and to nobody else."""
_BLOCK = 4096
"""Points per libxc call for second and third derivatives (up to 8 kB per point)."""
_DILUTE = 1e-10
"""Density below which a result libxc cannot represent counts as zero."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class XCSpec:
    """A checked exchange-correlation string.

    Attributes:
        name: The string as given.
        kind: "HF", "LDA", "GGA" or "MGGA".
        hyb: Fraction of full-range (or, with range separation, short-range) exact exchange.
        alpha: Fraction of long-range exact exchange.
        omega: Range-separation parameter, 1/bohr; 0 without range separation.
        components: (libxc name, coefficient) pairs that libxc is asked to evaluate.
        corrections: Non-local correlation and dispersion the string asks for.
    """

    name: str
    kind: XCKind
    hyb: float
    alpha: float
    omega: float
    components: tuple[tuple[str, float], ...]
    corrections: Corrections


def describe(xc: str, corrections: Corrections | None = None) -> XCSpec:
    """Resolve an xc string as PySCF does, and refuse what cannot be computed right.

    Nothing is evaluated.

    Args:
        xc: PySCF's xc description, such as "pbe", "b3lyp" or "0.5*hf + 0.5*b88, lyp".
        corrections: Non-local correlation and dispersion, where something else decides them.

    Returns:
        Kind, exact-exchange coefficients and components.

    Raises:
        InputError: If the string is unknown or ambiguous, or names a functional without an energy,
            with a Laplacian, a Yukawa kernel, for one or two dimensions, or for the kinetic
            energy, or if its dispersion correction is unknown or not installed.
    """
    _check_length(xc)
    split(xc)
    names = _libxc_names()
    fractions, resolved = _parse(_NICKNAMES.get(xc.strip().lower(), xc), xc)
    unknown = [number for number, _ in resolved if number not in names]
    if unknown:
        raise InputError(f"xc {xc!r} names libxc number {unknown[0]}, which does not exist")
    components = tuple((names[number], float(c)) for number, c in resolved)
    for name, _ in components:
        _refuse_component(xc, name)
    coefficients = [*fractions[:2], *(c for _, c in components)]
    if not any(coefficients):
        raise InputError(f"xc {xc!r} contains no functional; use for example pbe, or hf")
    if libxc.needs_laplacian(xc):
        raise InputError(
            f"xc {xc!r} depends on the density Laplacian, which is not supported; choose another"
            " functional"
        )
    _check_coefficients(xc, [*coefficients, fractions[2]])
    omega, alpha, hyb = _exact_exchange(xc)
    if corrections is None:
        corrections = corrections_of(xc)
    if corrections.dispersion is None:
        _warn_of_missing_dispersion(xc, components)
    return XCSpec(
        name=xc,
        kind=cast("XCKind", libxc.xc_type(xc)),
        hyb=hyb,
        alpha=alpha,
        omega=omega,
        components=components,
        corrections=corrections,
    )


def _check_length(xc: str) -> None:
    if not xc.strip():
        raise InputError("xc expected a functional, got an empty string; use for example pbe")
    if len(xc) > _LONGEST:
        raise InputError(
            f"xc expected a functional of at most {_LONGEST} characters, got {len(xc)}, beginning "
            f"{xc[:40]!r}; correct it"
        )


def _check_coefficients(xc: str, values: list[float]) -> None:
    """Numbers that a functional can have; the last one is omega."""
    if _UNDERSCORE.search(xc):
        raise InputError(
            f"xc {xc!r} expected coefficients like 0.25, got an underscore; leave it out"
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"xc {xc!r} expected finite coefficients, got infinity; write smaller ones"
        )
    largest = max(values[:-1], key=abs)
    if abs(largest) > _LARGEST:
        raise InputError(
            f"xc {xc!r} expected coefficients from -{_LARGEST} to {_LARGEST}, got {largest:g}; "
            "write smaller ones"
        )


def _exact_exchange(xc: str) -> tuple[float, float, float]:
    """PySCF's omega, fraction at long range, and fraction elsewhere."""
    try:
        omega, alpha, hyb = numint.NumInt().rsh_and_hybrid_coeff(xc)
    except (AssertionError, AttributeError, KeyError, ValueError) as error:
        raise InputError(f"xc {xc!r} has a range separation PySCF cannot evaluate") from error
    if omega < 0:
        raise InputError(
            f"xc {xc!r} expected an omega of 0 or more, got {omega:g}; the order is "
            "RSH(alpha; beta; omega)"
        )
    return float(omega), float(alpha), float(hyb)


def make_functional(
    spec: XCSpec, *, unrestricted: bool, engine: Engine = "auto"
) -> Functional | None:
    """The semilocal functional of a specification.

    Args:
        spec: From :func:`describe`.
        unrestricted: Spin densities as arguments instead of the total density.
        engine: "torch" for the implementations in ``ks/xc``, "libxc" for PySCF's libxc; "auto"
            takes torch where every component has one.

    Returns:
        The functional, or None for pure Hartree-Fock exchange.

    Raises:
        InputError: If "torch" is asked for and a component has no torch implementation, or not
            with the omega that the string gives it.
    """
    if spec.kind == "HF":
        return None
    if engine == "libxc":
        return LibxcFunctional(spec, unrestricted=unrestricted)
    if _sets_omega_of_component(spec):
        if engine == "torch":
            raise InputError(
                f"xc {spec.name!r} gives its functionals an omega of its own, which those in torch"
                " do not take; use engine 'auto' or 'libxc'"
            )
        return LibxcFunctional(spec, unrestricted=unrestricted)
    if engine == "torch" or registry.is_implemented(name for name, _ in spec.components):
        return registry.combine(spec.components, unrestricted=unrestricted)
    return LibxcFunctional(spec, unrestricted=unrestricted)


@final
class LibxcFunctional:
    """A functional evaluated by libxc on the CPU; implements ``ks.protocol.Functional``."""

    def __init__(self, spec: XCSpec, *, unrestricted: bool) -> None:
        """Keep the specification.

        Args:
            spec: From :func:`describe`; its kind is not "HF".
            unrestricted: Arguments are [2, nvar, ngrids] instead of [1, nvar, ngrids].

        Raises:
            InputError: If the specification has no semilocal part.
        """
        if spec.kind == "HF":
            raise InputError(f"xc {spec.name!r} has no semilocal part; pass None as functional")
        self.kind: XCKind = spec.kind
        self.unrestricted = unrestricted
        self.spec = spec

    @property
    def key(self) -> Hashable:
        """Equal for functionals with equal values; see ``ks.batch``."""
        return (self.unrestricted, "libxc", self.spec.components)

    def polarised(self) -> "LibxcFunctional":
        """The functional for (alpha, beta) densities."""
        return LibxcFunctional(self.spec, unrestricted=True)

    def gradient(self, rho: Features) -> tuple[GridScalar, Features]:
        """Energy per volume and its first derivative.

        Args:
            rho: Density rows, atomic units.

        Returns:
            f, [ngrids], Eh / bohr^3, and df/drho, the shape of ``rho``.

        Raises:
            InputError: If the shape does not fit the functional.
        """
        values = self._checked(rho)
        exc, vxc = self._evaluate(values, 1)[:2]
        density = values[:, 0].sum(0)
        out_f = torch.from_numpy(np.where(exc == 0, 0.0, density * exc))
        first = torch.from_numpy(vxc.reshape(values.shape).copy())
        return out_f.to(rho.device), first.to(rho.device)

    def second(self, rho: Features, d1: Features) -> Features:
        """Second derivative of f contracted with ``d1``.

        Args:
            rho: Density rows, atomic units.
            d1: Direction, the shape of ``rho``.

        Returns:
            The shape of ``rho``.

        Raises:
            InputError: If a shape does not fit the functional.
        """
        return self._contracted(rho, d1)

    def third(self, rho: Features, d1: Features, d2: Features) -> Features:
        """Third derivative of f contracted with two directions.

        Args:
            rho: Density rows, atomic units.
            d1: First direction, the shape of ``rho``.
            d2: Second direction, the shape of ``rho``.

        Returns:
            The shape of ``rho``.

        Raises:
            InputError: If a shape does not fit or libxc lacks this derivative.
        """
        return self._contracted(rho, d1, d2)

    def _contracted(self, rho: Tensor, *directions: Tensor) -> Tensor:
        values = self._checked(rho)
        along = [self._checked(d) for d in directions]
        rows = values.shape[:-1]
        n_rows = int(np.prod(rows))
        out = np.empty((n_rows, values.shape[-1]))
        for start in range(0, values.shape[-1], _BLOCK):
            block = slice(start, start + _BLOCK)
            tensor = self._evaluate(values[..., block], 1 + len(along))[1 + len(along)]
            tensor = tensor.reshape(*(n_rows,) * (1 + len(along)), -1)
            for d in along:
                tensor = np.einsum("xy...g,xg->y...g", tensor, d[..., block].reshape(n_rows, -1))
            out[:, block] = tensor
        return torch.from_numpy(out.reshape(values.shape)).to(rho.device)

    def _checked(self, rho: Tensor) -> NDArray[np.float64]:
        expected = (2 if self.unrestricted else 1, NVAR[self.kind])
        if tuple(rho.shape[:-1]) != expected:
            raise InputError(
                f"density variables expected shape {[*expected, 'ngrids']}, got"
                f" {list(rho.shape)}; pass the rows of a {self.kind}"
            )
        return np.ascontiguousarray(rho.detach().cpu().numpy())

    def _evaluate(self, rho: NDArray[np.float64], deriv: int) -> list[NDArray[np.float64]]:
        """exc per electron and its derivative tensors up to ``deriv``, zero where too dilute."""
        if deriv > libxc.max_deriv_order(self.spec.name):
            raise InputError(
                f"xc {self.spec.name!r} has no derivative of order {deriv} in libxc;"
                " choose another functional"
            )
        spin = 1 if self.unrestricted else 0
        rows = rho if self.unrestricted else rho[0]  # PySCF has no spin axis in closed shells
        with lib.with_omp_threads(1 if working_alone() else None):
            out = numint.NumInt().eval_xc_eff(self.spec.name, rows, deriv, spin=spin)[: deriv + 1]
        dilute = rho[:, 0].sum(0) < _DILUTE
        return [np.where(dilute & ~np.isfinite(x), 0.0, x) for x in out]


def _sets_omega_of_component(spec: XCSpec) -> bool:
    """Whether RSH, SR_HF or LR_HF in the string changes the omega of a component."""
    (_, _, omega), _ = _parse(spec.name, spec.name)
    # libxc's default omega of GGA_X_WPBEH is 0
    ranged = (n == "GGA_X_WPBEH" or libxc.rsh_coeff(n)[0] != 0 for n, _ in spec.components)
    return omega != 0 and any(ranged)


@lru_cache(maxsize=64)
def _warn_of_missing_dispersion(xc: str, components: tuple[tuple[str, float], ...]) -> None:
    """Say once that a functional made for a dispersion correction goes without one, as in PySCF."""
    for name, _ in components:
        if _MADE_FOR_DISPERSION.search(name):
            _log.warning(
                "xc %r: libxc's %s is the functional alone, its dispersion correction is not added "
                "(as in PySCF); write a version behind the name, such as -d3bj, to add one",
                xc,
                name,
            )


@lru_cache(maxsize=1)
def _libxc_names() -> dict[int, str]:
    """libxc's own name of every functional number."""
    return {int(n): name for name, n in libxc.available_libxc_functionals().items()}


def _parse(
    description: str, given: str
) -> tuple[tuple[float, float, float], list[tuple[int, float]]]:
    """(full or short range, long range, omega) exact exchange and (number, coefficient) pairs."""
    notes = io.StringIO()
    try:
        with contextlib.redirect_stderr(notes):
            fractions, resolved = libxc.parse_xc(description)
    except KeyError as error:
        found = re.search(r"name '(.+?)' not found", str(error))
        raise InputError(_unknown(given, found.group(1) if found else given)) from error
    except Exception as error:
        raise InputError(_unknown(given, given)) from error
    if "Possible xc_code" in notes.getvalue():
        choices = ", ".join(sorted(re.findall(r"'(\w+)'", notes.getvalue())))
        raise InputError(f"xc {given!r} is ambiguous; write one of {choices}")
    short, long, omega = (float(x) for x in fractions)
    return (short, long, omega), [(int(number), float(c)) for number, c in resolved]


def _unknown(given: str, token: str) -> str:
    """Message for an unknown name, with the nearest known one."""
    names = {k.lower() for k in (*libxc.XC_CODES, *libxc.XC_ALIAS)}
    token = token.lower()
    full = sorted(name for name in names if re.search(rf"_(x|c|xc)_{re.escape(token)}$", name))
    short = {re.split(r"_(?:x|c|xc)_", name)[-1] for name in names}
    # swapped letters are the commonest slip, and difflib ranks them low
    close = [name for name in sorted(names | short) if sorted(name) == sorted(token)]
    close = close or difflib.get_close_matches(token, sorted(names | short), n=1, cutoff=0.5)
    hint = "use a PySCF or libxc functional name"
    aliases = {k.lower(): str(v).lower() for k, v in libxc.XC_ALIAS.items()}
    if _DISPERSION_SUFFIX.search(token):
        hint = "a dispersion correction is written -d3bj, -d3zero or -d4 behind the functional"
    elif token in aliases:  # PySCF spells aliases out only without a comma
        hint = f"beside a comma write its parts, {aliases[token]!r}"
    elif full:
        hint = f"did you mean {full[0]!r}?"
    elif close:
        hint = f"did you mean {close[0]!r}?"
    part = "" if token == given.strip().lower() else f" (in {given!r})"
    return f"xc expected a functional that libxc knows, got {token!r}{part}; {hint}"


def _refuse_component(given: str, name: str) -> None:
    """Raise where a component cannot be used, from its name alone."""
    reason = ""
    if _LOW_DIMENSIONAL.search(name):
        reason = "is for one- or two-dimensional systems; choose a three-dimensional functional"
    elif name in POTENTIAL_ONLY:
        reason = "defines a potential but no energy; choose a functional with an energy"
    elif _KINETIC.match(name):
        reason = "is a kinetic-energy functional; choose an exchange-correlation functional"
    elif _YUKAWA.match(name):
        reason = "has a Yukawa range separation, which is not supported; choose an erf one"
    if reason:
        raise InputError(f"xc {given!r}: {name} {reason}")
