"""Charge and spin that files of other programs state beside a geometry which ASE reads alone."""

import re

from deeph_zero.data.reading.words import number

_VALUE = r"([+-]?(?:\d|\.\d)[-+.\ded]*)"
_ASSIGNED = (  # NWChem, GAMESS, FHI-aims, DFTB+, Octopus, Chemical JSON
    ("charge", r"^[ \t]*Charge\s*:\s*([+-]?\d+)\s*$"),
    ("charge", r"CHARGE OF MOLECULE\s*=\s*([+-]?\d+)"),
    ("charge", r"^[ \t]*\|?[ \t]*Charge\s*=\s*([+-]?\d[-+.\dE]*)\s*:"),
    ("charge", r"^(?:[^#\n]*[{;\s])?(?:Excess)?Charge\s*=\s*([+-]?[\d.][-+.\dE]*)"),
    ("spin", r"^(?:[^#\n]*[{;\s])?UnpairedElectrons\s*=\s*([+-]?[\d.][-+.\dE]*)"),
    ("charge", r'"(?:totalCharge|charge)"\s*:\s*([+-]?\d+)'),
    ("multiplicity", r"^[ \t]*Spin multiplicity\s*[:=]\s*(\d+)\s*$"),
    ("multiplicity", r'"(?:totalSpinMultiplicity|spinMultiplicity)"\s*:\s*(\d+)'),
)
_PATTERNS = {
    **dict.fromkeys(
        (
            "nwchem-out", "gamess-us-out", "gamess-us-punch", "cjson", "dftb", "aims-output",
            "octopus-in",
        ),
        _ASSIGNED,
    ),
    "espresso-in": (
        ("charge", rf"^(?:[^!\n]*[\s,])?tot_charge\s*=\s*{_VALUE}"),
        ("spin", rf"^(?:[^!\n]*[\s,])?tot_magnetization\s*=\s*{_VALUE}"),
    ),
    "abinit-in": (
        ("charge", rf"^(?:[^#!\n]*\s)?(?:cell)?charge\s+{_VALUE}"),
        ("spin", rf"^(?:[^#!\n]*\s)?spinmagntarget\s+{_VALUE}"),
    ),
    "castep-castep": (
        ("charge", rf"^\s*net charge of system\s*:\s*{_VALUE}"),
        ("spin", rf"^\s*net spin\s+of system\s*:\s*{_VALUE}"),
    ),
    "onetep-in": (
        ("charge", rf"^\s*charge\s*[:=\s]\s*{_VALUE}"),
        ("spin", rf"^\s*spin\s*[:=\s]\s*{_VALUE}"),
    ),
    "gpaw-out": (("charge", rf"^\s*total charge:\s*{_VALUE}"),),
    "vasp-xml": (("spin", rf'<i name="NUPDOWN">\s*{_VALUE}'),),
    "vasp-out": (("spin", rf"^\s*NUPDOWN\s*=\s*{_VALUE}"),),
}  # fmt: skip
_NO_CONSTRAINT = {("espresso-in", "spin"), ("vasp-xml", "spin"), ("vasp-out", "spin")}
"""Where a negative number of unpaired electrons means that none is fixed."""
_LAYER = re.compile(r"^(?:[^!\n]*[\s,])?assume_isolated\s*=\s*['\"](?:2D|esm)['\"]", re.I | re.M)


def stated_beside(name: str, content: bytes) -> dict[str, str]:
    """What a program's file states of the state.

    Args:
        name: ASE's name of its format.
        content: The file.

    Returns:
        ``charge``, ``spin`` (2S) and ``multiplicity`` where they are found, as they are written.
    """
    patterns = _PATTERNS.get(name)
    if patterns is None:
        return {}
    text = content.decode("latin-1")
    found: dict[str, str] = {}
    for key, pattern in patterns:
        match = re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
        if match is None or len(match[1]) >= 20:
            continue
        value = number(match[1])
        if value is not None and value < 0 and (name, key) in _NO_CONSTRAINT:
            continue
        found.setdefault(key, match[1] if value is None else f"{value:.12g}")
    if name.startswith("vasp-") and (charge := _charge_of_vasp(name, text)) is not None:
        found["charge"] = f"{charge:.6g}"
    return found


def is_layer(name: str, content: bytes) -> bool:
    """Whether an input of Quantum ESPRESSO asks for a layer in a cell of three vectors.

    Args:
        name: ASE's name of its format.
        content: The file.

    Returns:
        True if it does.
    """
    return name == "espresso-in" and _LAYER.search(content.decode("latin-1")) is not None


def _charge_of_vasp(name: str, text: str) -> float | None:
    """Valence of all atoms less the electrons that were computed."""
    if name == "vasp-xml":
        total = re.search(r'<i name="NELECT">\s*([\d.]+)', text)
        rows = re.findall(
            r"<rc><c>\s*(\d+)\s*</c><c>[^<]*</c><c>[^<]*</c><c>\s*([\d.]+)\s*</c>", text
        )
    else:
        total = re.search(r"^\s*NELECT\s*=\s*([\d.]+)", text, re.MULTILINE)
        ions = re.search(r"ions per type\s*=((?:\s+\d+)+)", text)
        valence = re.search(r"ZVAL\s*=((?:\s+[\d.]+)+)\s*$", text, re.MULTILINE)
        counts = ions[1].split() if ions else []
        values = valence[1].split() if valence else []
        rows = list(zip(counts, values, strict=False)) if len(counts) == len(values) else []
    if total is None or not rows:
        return None
    charge = sum(int(n) * float(v) for n, v in rows) - float(total[1])
    return charge if abs(charge) > 1e-3 else 0.0
