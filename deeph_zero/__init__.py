"""Kohn-Sham theory without labels: the names users import, loaded when they are first used.

Examples:
    >>> import deeph_zero as dz
    >>> model = dz.load("organic-pbe")  # or a run folder; `deeph-zero models` lists names
    >>> result = model.predict(mol)  # pyscf Mole, ase Atoms or dz.Molecule
    >>> result.energy, result.certificate.energy_error_estimate  # Eh
    >>> molecules, bad = dz.read_structures("molecules.xyz")
    >>> dz.KohnSham.from_pyscf(mol, xc="pbe").scf().energy  # without a model
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from deeph_zero.host.version import __version__

if TYPE_CHECKING:
    from deeph_zero import ase
    from deeph_zero.data.structures import read_structures
    from deeph_zero.errors import ComputationError, DeephZeroError, InputError
    from deeph_zero.kohnsham import KohnSham
    from deeph_zero.kohnsham.batch import KohnShamBatch
    from deeph_zero.model import Model
    from deeph_zero.model import load_any as load
    from deeph_zero.molecule import Molecule
    from deeph_zero.predict.crystal_model import CrystalModel

__all__ = [
    "ComputationError",
    "CrystalModel",
    "DeephZeroError",
    "InputError",
    "KohnSham",
    "KohnShamBatch",
    "Model",
    "Molecule",
    "__version__",
    "ase",
    "load",
    "read_structures",
]


def _configure_pyscf() -> None:
    """Name PySCF's file of settings: it would run ``.pyscf_conf.py`` of the working folder.

    The user's own, named by ``PYSCF_CONFIG_FILE`` or in the home folder, is run as ever.
    """
    own = os.environ.get("PYSCF_CONFIG_FILE")
    if "pyscf" in sys.modules or (own and os.path.isfile(own)):  # noqa: PTH113  (pathlib is slow)
        return
    home = os.path.expanduser("~/.pyscf_conf.py")  # noqa: PTH111
    ours = os.path.join(os.path.dirname(__file__), "integrals", "pyscf_conf.py")  # noqa: PTH118, PTH120
    os.environ["PYSCF_CONFIG_FILE"] = home if os.path.isfile(home) else ours  # noqa: PTH113


_configure_pyscf()

_HOME = {
    "ComputationError": "errors",
    "CrystalModel": "predict.crystal_model",
    "DeephZeroError": "errors",
    "InputError": "errors",
    "KohnSham": "kohnsham",
    "KohnShamBatch": "kohnsham.batch",
    "Model": "model",
    "Molecule": "molecule",
    "load": "model",
    "read_structures": "data.structures",
}
"""Module of each name: torch and PySCF take seconds to import, ``--help`` should not wait."""
_CALLED = {"load": "load_any"}
"""Names that are others in their modules."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name == "ase":  # a module of its own: ASE's calculators are slow to import
        return importlib.import_module(f"{__name__}.ase")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_near(name)}")
    own = _CALLED.get(name, name)
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), own)
    globals()[name] = value
    return value


def _near(name: str) -> str:
    """What a misspelt name may have been."""
    if name.startswith("__"):  # asked by tools, not by users
        return ""
    import difflib  # for this line alone

    known = {public.lower(): public for public in __all__}
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {known[near[0]]}?" if near else f"; there are {', '.join(__all__)}"


def __dir__() -> list[str]:
    """What users call, for completion: no module that this one needs."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
