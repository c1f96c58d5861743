"""Crystals of cif files, block by block; what ASE would leave out of them is refused or said."""

import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import ase
import numpy as np
from ase.io.cif import CIFBlock, parse_cif

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.words import quote, refusal
from deeph_zero.errors import InputError

_CELL = CIFBlock.cell_tags
_PLACES = [f"_atom_site_fract_{axis}" for axis in "xyz"]
_CARTESIAN = [f"_atom_site_cartn_{axis}" for axis in "xyz"]
_OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_space_group_symop.operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
)
_NAMES = (
    "_space_group.it_number", "_space_group_it_number", "_symmetry_int_tables_number",
    "_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m",
    "_space_group.patterson_name_h-m",
)  # fmt: skip
_ELSEWHERE = re.compile(r"_(space_group|symmetry)\S*hall|symop_magn_|space_group_magn|_ssg_")
"""Symmetry that ASE's reader does not know."""
_UNKNOWN = ("?", ".", "")


def cif_crystals(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """The structure of every data block that has one.

    Args:
        text: The file.
        say: Takes a warning about the block that comes next.

    Yields:
        The atoms with all copies by symmetry, or what is wrong with a block.

    Raises:
        WholeFileError: If it is a file of proteins (mmCIF).
    """
    if "_atom_site.Cartn_x" in text:
        raise WholeFileError("expected a structure, got mmCIF, not supported; write .pdb or .xyz")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for block in parse_cif(io.StringIO(text)):
                if any(name in block for name in (*_PLACES, *_CARTESIAN)):
                    yield _crystal(block, say)
    except Exception as error:  # ASE raises whatever its parsers meet
        yield refusal("cif", error)


def _crystal(block: CIFBlock, say: Say) -> ase.Atoms | InputError:
    try:
        _check_numbers(block)
        block = _with_group(block)
        atoms = block.get_atoms(fractional_occupancies=True)
    except InputError as error:
        return InputError(f"data block {quote(block.name)}: {error}")
    except Exception as error:  # ASE raises whatever its parsers meet
        return refusal("cif", error)
    if any(name.startswith("_atom_site_moment") for name in block):
        say("its magnetic moments (_atom_site_moment) are not used; write initial_magmoms in .xyz")
    return atoms


def _check_numbers(block: CIFBlock) -> None:
    """A cell of six numbers where places are fractions of it, and a number for each coordinate."""
    fractional = any(name in block for name in _PLACES)
    if fractional or any(name in block for name in _CELL):
        for name in _CELL:
            if not isinstance(block.get(name), int | float):
                got = "none" if name not in block else quote(str(block[name]))
                raise InputError(f"expected a number for {name}, got {got}; complete the cell")
    for name in _PLACES if fractional else _CARTESIAN:
        if name not in block:
            raise InputError(f"expected a column {name}, got none; complete the coordinates")
        values: Any = block[name]
        if values == []:
            raise InputError(f"expected atoms, got an empty column {name}; write the atoms to it")
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, int | float) or not np.isfinite(value):
                cure = "leave the atom out" if value in _UNKNOWN else "correct it"
                raise InputError(f"expected numbers in {name}, got {quote(str(value))}; {cure}")


def _with_group(block: CIFBlock) -> CIFBlock:
    """The block with a space group that ASE finds: operations alone are enough to make copies."""
    if any(block.get(name) not in (None, *_UNKNOWN) for name in _NAMES):
        return block
    tags = {name: value for name, value in block.items() if name not in _NAMES}
    if any(name in block for name in _OPERATIONS):
        return CIFBlock(block.name, tags | {"_symmetry_int_tables_number": 1})
    other = next((name for name in block if _ELSEWHERE.search(name)), None)
    if other is not None:
        raise InputError(
            f"expected symmetry as operations (_space_group_symop_operation_xyz) or a space "
            f"group's number, got {other} alone; add one, or write all atoms of the cell in P 1"
        )
    return CIFBlock(block.name, tags)
