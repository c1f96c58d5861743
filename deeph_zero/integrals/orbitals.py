"""Counting electrons: a molecule's charge, and whether its basis functions hold them all."""

from typing import Any

from deeph_zero.errors import InputError, argument


def check_orbitals(
    nelec: tuple[int, int],
    nao: int,
    *,
    charge: int,
    n_independent: int | None = None,
    where: str = "",
) -> None:
    """Refuse more electrons of one spin than there are orbitals for them.

    Args:
        nelec: (n_alpha, n_beta).
        nao: Basis functions.
        charge: Charge of the molecule, for the message.
        n_independent: Linearly independent combinations of the functions; None: all of them.
        where: Start of the message (file and frame).

    Raises:
        InputError: If there are too many.
    """
    available = nao if n_independent is None else n_independent
    most = max(nelec)
    if most <= available:
        return
    closed = nelec[0] == nelec[1]
    kind = "electron pairs" if closed else "electrons of one spin"
    given = f"charge {charge}" if closed else f"charge {charge}, spin {abs(nelec[0] - nelec[1])}"
    basis, state = argument("basis"), f"{argument('charge')} or {argument('spin')}"
    what, cure = "orbitals", f"choose a larger {basis}, or another {state}"
    if available < nao:
        what = f"linearly independent orbitals (of {nao} functions)"
        cure = f"choose another {basis}, or check the distances between the atoms"
    raise InputError(
        f"{where}expected at most {available} {kind} for {available} {what}, got {most} "
        f"({given}); {cure}"
    )


def charge_of(mol: Any) -> int:
    """Charge of a PySCF molecule, from the electrons it has.

    Args:
        mol: Built molecule; where ``mol.nelectron`` was set, ``mol.charge`` does not follow it.

    Returns:
        Nuclear charges (less the cores of pseudopotentials) minus electrons.
    """
    return round(float(mol.atom_charges().sum())) - int(mol.nelectron)
