"""What a run reached, spent and proved, in sentences built from its numbers."""

import statistics
from collections.abc import Mapping
from typing import Any

from deeph_zero.errors import argument
from deeph_zero.report.data import Matrices, Source, Structure
from deeph_zero.report.numbers import (
    IN_INTERVALS,
    duration,
    interval,
    length,
    millivolt,
    number,
    numbers,
    plural,
    show,
    significant,
    small_energy,
)

CHEMICAL_ACCURACY = 1.6e-3
"""One kcal/mol in Eh."""
_STOPS = {
    "converged": "every structure reached the tolerance",
    "epochs": "the planned epochs were done",
    "steps": "the planned steps were done",
    "max_time": "its time limit was over",
    "interrupt": "it was interrupted",
    "error": "an error ended it",
}
_MADE_BY = {
    "run": "Label-free training",
    "predict": "Prediction by a trained network",
    "label": "Reference data from self-consistent field calculations",
    "matrices": "Levels of stored matrices",
}


def method(summary: Mapping[str, Any]) -> str:
    """Functional and basis as chemists write them."""
    return f"{summary.get('xc') or '?'}/{summary.get('basis') or '?'}"


def title(source: Source) -> str:
    """The molecule, or how many of them."""
    entries = source.structures
    formulas = list(dict.fromkeys(s.formula for s in entries if s.formula))
    if len(entries) == 1:
        return formulas[0] if formulas else entries[0].name
    kinds = ", ".join(formulas[:3]) + (", …" if len(formulas) > 3 else "")
    count = plural(len(entries), "structure")
    return f"{count} of {kinds}" if kinds else count


def headline(source: Source) -> str:
    """What it is, the energy with its error, and whether it converged: two or three sentences."""
    entries = source.structures
    two_spins = sum(s.unrestricted for s in entries)
    spin = "unrestricted " if two_spins and two_spins == len(entries) else ""
    some = f" ({two_spins} of {len(entries)} unrestricted)" if two_spins and not spin else ""
    start = f"{_MADE_BY[source.kind]}, {spin}{method(source.summary)}{some}."
    if source.kind == "matrices":
        lost = len(source.summary.get("failed") or [])
        failed = f" {plural(lost, 'frame')} failed." if lost else ""
        return f"{_origin(source)}: {plural(len(entries), 'structure')}.{failed}"
    if not entries:
        return f"{start} No structure was finished."
    if len(entries) > 1:
        return f"{start} {_many(source)} {_status(source)}"
    entry = entries[0].entry
    _, refined = _bounded(entry, "refined_")
    name, energy = _bounded(entry)
    if refined is not None:
        text = f"The refined (self-consistent) {name} is {refined:.8f} Eh."
    elif energy is None:
        text = "No energy was computed."
    else:
        text = f"The {name} is {energy:.8f} Eh"
        error = entries[0].error_estimate
        if error is not None:
            text += f"; its estimated error, against self-consistency, is {small_energy(error)}"
        text += "."
    return f"{start} {text} {_status(source)}"


def _bounded(entry: Mapping[str, Any], start: str = "") -> tuple[str, float | None]:
    """Name and value of what self-consistency lowers: of smeared crystals the free energy."""
    energy, free = (number(entry.get(start + key)) for key in ("energy", "free_energy"))
    return ("energy", energy) if free is None or free == energy else ("free energy", free)


def _origin(source: Source) -> str:
    """Where matrices come from that are no calculation of this package."""
    kind = source.summary.get("source_format")
    return _MADE_BY["matrices"] + (f", converted from {kind}" if kind else "")


def _many(source: Source) -> str:
    errors = [s.error_estimate for s in source.structures]
    known = [e for e in errors if e is not None]
    if not known:
        return "No energy error was estimated."
    worst = max(source.structures, key=lambda s: s.error_estimate or 0.0)
    return (
        f"The median estimated energy error is {small_energy(statistics.median(known))}, the "
        f"largest {small_energy(max(known))} ({worst.name})."
    )


def _status(source: Source) -> str:
    summary, entries = source.summary, source.structures
    flags = [s.entry.get("converged") for s in entries]
    asked = [f for f in flags if f is not None]
    reason = _STOPS.get(str(summary.get("stopped_by")), "")
    why = f"; it ended because {reason}" if reason and source.kind == "run" else ""
    failed = len(summary.get("failed") or [])
    lost = f" {plural(failed, 'frame')} failed." if failed else ""
    if not asked:
        text = "No convergence was asked for: the numbers are those of the network's density."
    elif all(asked):
        text = "Converged." if len(entries) == 1 else "All of them converged."
    elif len(entries) == 1:
        text = f"Not converged{why}."
    else:
        text = f"{sum(bool(f) for f in asked)} of {len(asked)} reached the tolerance{why}."
    return text + lost


def tiles(source: Source, matrices: Matrices | None) -> list[tuple[str, str, str]]:
    """The few numbers to see first.

    Args:
        source: The run.
        matrices: The matrices of the only structure, if there is one.

    Returns:
        Name, value and a note for each.
    """
    summary = source.summary
    chosen: list[tuple[str, str, str]] = []
    if source.kind == "matrices":
        entry = source.structures[0].entry if len(source.structures) == 1 else {}
        names = {"fermi": "Fermi level", "gap": "Gap on the path"}
        known = [(text, show(entry.get(name), ".4f"), "Eh") for name, text in names.items()]
        known.append(("Structures", str(len(source.structures)), ""))
        return [tile for tile in known if any(c.isalnum() for c in tile[1])]
    if len(source.structures) == 1:
        entry = source.structures[0].entry
        (name, energy), (_, final) = _bounded(entry), _bounded(entry, "refined_")
        energy = energy if final is None else final
        error = source.structures[0].error_estimate if final is None else None
        chosen = [
            (name.capitalize(), show(energy, ".8f"), "Eh" if final is None else "Eh, refined"),
            ("Error estimate", small_energy(error), "above self-consistency"),
            ("HOMO–LUMO gap", show(entry.get("gap"), ".4f"), _unit("Eh", entry.get("gap"))),
            ("Dipole", show(length(entry.get("dipole")), ".3f"), "debye"),
        ]
        if final is not None:
            chosen[2:] = _beside_refined(entry)
        contamination, when = _spin_square(entry)
        if contamination is not None:
            spin = matrices.spin / 2 if matrices else None
            ideal = "" if spin is None else f"{spin * (spin + 1):.2f} for a pure spin"
            note = ", ".join(text for text in (ideal, when) if text)
            chosen.append(("⟨S²⟩", show(contamination, ".4f"), note))
    else:
        errors = [s.error_estimate for s in source.structures if s.error_estimate is not None]
        done = sum(bool(s.entry.get("converged")) for s in source.structures)
        chosen = [
            ("Structures", str(len(source.structures)), f"{done} converged"),
            ("Median error", small_energy(statistics.median(errors) if errors else None), ""),
            ("Largest error", small_energy(max(errors, default=None)), ""),
        ]
    builds, seconds = number(summary.get("fock_builds")), number(summary.get("wall_time_s"))
    chosen.append(("Fock builds", show(builds, ".0f"), "all of them counted"))
    chosen.append(("Time", duration(seconds), f"on {summary.get('device') or 'an unknown device'}"))
    return [tile for tile in chosen if any(c.isalnum() for c in tile[1])]


def _beside_refined(entry: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Gap and dipole beside a refined energy; a summary has no refined gap."""
    gap, dipole = entry.get("gap"), length(entry.get("refined_dipole"))
    known = ("debye, before refinement", "debye, refined")[dipole is not None]
    value = length(entry.get("dipole")) if dipole is None else dipole
    return [
        ("HOMO–LUMO gap", show(gap, ".4f"), f"{_unit('Eh', gap)}, before refinement"),
        ("Dipole", show(value, ".3f"), known),
    ]


def _spin_square(entry: Mapping[str, Any]) -> tuple[float | None, str]:
    """⟨S²⟩, the refined one if there is one, and which it is where there was a refinement."""
    first, final = (number(entry.get(start + "spin_square")) for start in ("", "refined_"))
    if final is not None:
        return final, "refined"
    return first, "" if _bounded(entry, "refined_")[1] is None else "before refinement"


def _unit(unit: str, value: Any) -> str:
    return f"{unit}, α / β" if len(numbers(value)) > 1 else unit


def account(source: Source) -> list[tuple[str, str]]:
    """What was asked, reached and spent: one paragraph each."""
    summary = source.summary
    if source.kind == "matrices":
        where = summary.get("source") or summary.get("command") or source.path
        return [("Read", f"{_origin(source)} ({where}); no functional was evaluated.")]
    count = plural(len(source.structures), "structure")
    fitted = f", fitting set {summary['auxbasis']}" if summary.get("auxbasis") else ""
    asked = f"{_MADE_BY[source.kind]} for {count}: {method(summary)}"
    crystals = bool(source.structures) and all(s.periodic for s in source.structures)
    if summary.get("grid_level") is not None and not crystals:  # they have a uniform grid
        asked += f", grid level {summary['grid_level']}"
    asked += f"{fitted if summary.get('density_fit') else ''}."
    if source.kind == "run" and summary.get("loss"):
        asked += f" Loss: {summary['loss']}."
    limits = summary.get("limits") or {}
    given = {k: v for k, v in limits.items() if v is not None} if isinstance(limits, dict) else {}
    if given:
        names = {"conv_tol_grad": "tolerance"}
        asked += " Asked for: " + ", ".join(f"{names.get(k, k)} {v}" for k, v in given.items())
        asked += "."
    builds = number(summary.get("fock_builds"))
    spent = f"{duration(number(summary.get('wall_time_s')))} on {summary.get('device') or '?'}"
    threads = number(summary.get("threads"))
    spent += f" with {plural(int(threads), 'thread')}" if threads else ""
    if builds is not None:
        coarse = int(number(summary.get("coarse_builds")) or 0)
        spent += f", and {plural(int(builds), 'Fock build')}"
        spent += f" and {coarse} on the coarse grid" if coarse else ""
        if len(source.structures) > 1:
            spent += f" ({builds / len(source.structures):.1f} per structure)"
        spent += ": starting matrices, training and certificates are all counted"
    told = [("Asked", asked), ("Reached", _reached(source)), ("Intervals", _intervals(source))]
    return [*((name, text) for name, text in told if text), ("Spent", spent + ".")]


def _intervals(source: Source) -> str:
    """Where converged values lie, of a single structure whose model was calibrated."""
    entry = source.structures[0].entry if len(source.structures) == 1 else {}
    given, reasons = entry.get("intervals"), entry.get("out_of_distribution")
    given = given if isinstance(given, dict) else {}
    parts = [_one_interval(given.get(key), *how) for key, how in IN_INTERVALS.items()]
    told = f"95 % of converged values lie in theirs: {', '.join(p for p in parts if p)}. "
    outside = "; ".join(str(r) for r in reasons) if isinstance(reasons, list) else ""
    but = f"Errors and intervals promise nothing for this structure: {outside}." if outside else ""
    return f"{told if any(parts) else ''}{but}".strip()


def _one_interval(found: Any, name: str, unit: str, decimals: int) -> str:
    """One quantity, "alpha / beta" for two spins; empty where there is none."""
    ends = [numbers(found)]
    if isinstance(found, list) and any(isinstance(one, list) for one in found):
        ends = [numbers(one) for one in found]
    known = [(one[0], one[1]) for one in ends if len(one) == 2]
    texts = [interval(a, b, decimals) for a, b in known if a is not None and b is not None]
    return f"{name} {' / '.join(texts)} {unit}" if texts else ""


def _reached(source: Source) -> str:
    keys = ("orbital_gradient_rms", "energy_error_estimate", "residual_mae")
    found = {key: [number(s.entry.get(key)) for s in source.structures] for key in keys}
    known = {key: [v for v in values if v is not None] for key, values in found.items()}
    worst = "" if len(source.structures) == 1 else "at most "
    names = ("orbital gradient", "estimated energy error", "mean residual of the Fock matrix")
    parts = [
        f"{name} {worst}{small_energy(max(known[key]))}"
        for key, name in zip(keys, names, strict=True)
        if known[key]
    ]
    text = "; ".join(parts)
    if text and any(_bounded(s.entry, "refined_")[1] is not None for s in source.structures):
        text = f"before refinement: {text}"
    return f"{_status(source)} {text[:1].upper()}{text[1:]}{'.' if text else ''}".strip()


def _discretised(source: Source, structure: Structure) -> str:
    """What the energy is variational in."""
    if structure.periodic or "kmesh" in structure.entry:
        return "basis, k-points and grid"
    fitted = source.summary.get("density_fit") is not False
    return "basis, fitting set and grid" if fitted else "basis and grid"


def certificate(source: Source, structure: Structure, matrices: Matrices | None) -> list[str]:
    """What one Fock build says about a density, for a chemist.

    Args:
        source: The run.
        structure: The one the sentences are about.
        matrices: Its matrices, if they were kept.

    Returns:
        Sentences; empty if there was no Fock build.
    """
    entry = structure.entry
    (name, energy), error = _bounded(entry), structure.error_estimate
    of = "" if name == "energy" else f"a {name} of "
    gradient = number(entry.get("orbital_gradient_rms"))
    if energy is None or gradient is None:
        return []
    if source.kind == "label":
        first = f"The self-consistent field calculation ended at {of}{energy:.8f} Eh."
    else:
        first = (
            "The network wrote a Fock matrix, its orbitals gave a density, and one Kohn-Sham Fock "
            f"build at that density gave the {name} {energy:.8f} Eh. This {name} is variational: "
            f"with the same {_discretised(source, structure)}, self-consistency can only lower it."
        )
    sentences = [first, _gradient(gradient, entry)]
    if error is not None:
        sentences.append(_error(error))
    residual = number(entry.get("residual_mae"))
    if residual is not None:
        sentences.append(
            f"The network's matrix and the one rebuilt from its density differ by "
            f"{small_energy(residual)} in the average element{_mixing(entry)}."
        )
    sentences += _checks(entry, matrices)
    _, refined = _bounded(entry, "refined_")
    if refined is not None:
        sentences.append(
            f"SCF started from this density ended at {of}{refined:.8f} Eh, "
            f"{small_energy(energy - refined)} below: the true error of the prediction."
        )
    elif entry.get("converged") is not True and source.kind != "label":
        sentences.append(
            "Where this is not close enough, deeph-zero predict --refine 1e-5 finishes the "
            "density with ordinary SCF iterations."
        )
    return sentences


def _mixing(entry: Mapping[str, Any]) -> str:
    """The part of the residual that matters for the density, where it is on record."""
    blocks = entry.get("residual_blocks")
    mixing = number(blocks.get("occ-virt")) if isinstance(blocks, Mapping) else None
    if mixing is None:
        return ""
    return (
        f", by {small_energy(mixing)} (root mean square) between occupied and empty orbitals, "
        "which is what moves the density"
    )


def _gradient(gradient: float, entry: Mapping[str, Any]) -> str:
    verdict = {
        True: "small enough for the tolerance of this calculation",
        False: "larger than the tolerance of this calculation",
    }.get(entry.get("converged"), "not compared with a tolerance")  # pyright: ignore
    if _bounded(entry, "refined_")[1] is not None:  # "converged" is of the refinement then
        verdict = "where the refinement began"
    return (
        "At self-consistency occupied and empty orbitals no longer mix; what is left of that "
        f"mixing, the orbital gradient, is {gradient:.1e} Eh (root mean square), {verdict}."
    )


def _error(error: float) -> str:
    ratio = error / CHEMICAL_ACCURACY
    if ratio < 1e-3:
        scale = "far below chemical accuracy (43 meV)"
    elif ratio < 1:
        scale = f"{significant(100 * ratio, 2)} % of chemical accuracy (43 meV)"
    else:
        scale = f"{significant(ratio, 2)} times chemical accuracy (43 meV): do not use it as it is"
    return (
        "From it follows an estimate of how far this energy lies above the self-consistent one: "
        f"{small_energy(error)} ({millivolt(error)}), {scale}. The estimate is of second order, to "
        "be trusted near self-consistency."
    )


def _checks(entry: Mapping[str, Any], matrices: Matrices | None) -> list[str]:
    """Electron count, spin, degeneracy: only what can be said."""
    sentences = []
    counted = number(entry.get("n_electrons"))
    if counted is not None and matrices is not None:
        total = matrices.dm.sum(0) if matrices.unrestricted else matrices.dm
        electrons = float((total * matrices.overlap).sum())
        sentences.append(
            f"The integration grid counts the {electrons:.0f} electrons to within "
            f"{significant(max(abs(counted - electrons), 1e-9), 1)}."
        )
    spin, when = _spin_square(entry)
    if spin is not None and matrices is not None:
        ideal = matrices.spin / 2 * (matrices.spin / 2 + 1)
        words = {"refined": "After refinement ", "before refinement": "Before refinement "}
        sentences.append(
            f"{words.get(when, '')}⟨S²⟩ is {spin:.4f}, a pure spin state has {ideal:.4f}: "
            + ("hardly any" if abs(spin - ideal) < 0.05 else "marked")
            + " spin contamination."
        )
    if entry.get("degenerate"):
        sentences.append(
            "The frontier level is degenerate and was filled evenly: an ensemble, not one "
            f"determinant; {argument('break_symmetry', True)} chooses one."
        )
    return sentences
