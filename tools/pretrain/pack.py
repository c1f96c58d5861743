"""Make a run into a model that comes with the package: its files, its card, their checksums.

    python tools/pretrain/pack.py RUN --name organic-pbe --facts organic-pbe.facts.toml \
        --structures train.xyz --evaluated "QM9, 7 to 9 heavy atoms=qm9_eval.json"
    python tools/pretrain/pack.py --card-only --name organic-pbe --facts ... --evaluated ...

What nobody can compute (what it is for, what it does not know) is in the facts, everything else
comes from the run, the training structures, and files of `deeph-zero evaluate` over structures that
were not trained on. README.md beside this file has the formats.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deeph_zero.data.structures import read_structures
from deeph_zero.errors import DeephZeroError, InputError
from deeph_zero.host import shipped
from deeph_zero.model import Model, load
from deeph_zero.model_files.card import CARD_VERSION, Card, Errors, longest_step, symbols
from deeph_zero.molecule import Molecule
from deeph_zero.predict.intervals import LEVELS, Calibration, reach_of
from deeph_zero.units import BOHR_IN_ANGSTROM

FILES = tuple(name for name in shipped.FILES if name != shipped.CARD)
FACTS = {"title", "trained", "data", "recipe", "cost", "unknown", "domain", "run"}
WIDTH = 3
"""Numbers of atoms in one row of the errors by size."""
SPARE = 1.0
"""Angstrom that parts of a structure may be further apart than those trained on."""

Row = tuple[int, frozenset[str], dict[str, float | None]]
"""Atoms, elements and errors of one structure."""
Calibrating = tuple[Path, int, int]
"""A file of errors, and the first and the last molecule of it that calibrated, from 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    args = _arguments(argv)
    try:
        card = pack(
            args.run,
            args.name,
            args.facts,
            structures=args.structures,
            evaluated=args.evaluated,
            measured=args.measured,
            calibrating=[(Path(file), int(a), int(b)) for file, a, b in args.calibrating],
            into=args.into,
        )
    except (DeephZeroError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    sys.stdout.write(f"{args.into / args.name}: {card.bytes / 1e6:.1f} MB, {card.title}\n")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("run", nargs="?", type=Path, help="folder of `deeph-zero train`")
    parser.add_argument("--name", required=True)
    parser.add_argument("--facts", type=Path, required=True, help="TOML")
    parser.add_argument("--structures", nargs="+", default=[], help="what was trained on")
    parser.add_argument("--evaluated", action="append", default=[], metavar="SET=FILE")
    parser.add_argument("--measured", action="append", default=[], metavar="SET=FILE")
    parser.add_argument(
        "--calibrating", nargs=3, action="append", default=[], metavar=("FILE", "FIRST", "LAST")
    )
    parser.add_argument("--card-only", action="store_true", help="keep the weights there are")
    parser.add_argument("--into", type=Path, default=shipped.FOLDER)
    args = parser.parse_args(argv)
    if (args.run is None) != args.card_only:
        parser.error("expected RUN, or --card-only")
    return args


def pack(
    run: Path | None,
    name: str,
    facts: Path,
    *,
    structures: Sequence[str] = (),
    evaluated: Sequence[str] = (),
    measured: Sequence[str] = (),
    calibrating: Sequence[Calibrating] = (),
    into: Path = shipped.FOLDER,
) -> Card:
    """Write a model's folder and the index.

    Args:
        run: Folder of a run; None keeps the weights that are there.
        name: The model's.
        facts: TOML file.
        structures: Files trained on; none keeps what the card there says of them.
        evaluated: "SET=FILE" of `deeph-zero evaluate`.
        measured: "SET=FILE" of errors measured otherwise.
        calibrating: Molecules of those files that say nothing of coverage.
        into: Folder of the models.

    Returns:
        The card.

    Raises:
        InputError: If the model is too large, or something is missing.
    """
    told = tomllib.loads(facts.read_text())
    if told.keys() - FACTS:
        raise InputError(f"{facts}: unknown {sorted(told.keys() - FACTS)}; known: {sorted(FACTS)}")
    place = into / name
    source = place if run is None else run
    old = json.loads((place / shipped.CARD).read_text()) if run is None else {}
    size = (source / FILES[0]).stat().st_size
    if size > shipped.LARGEST:
        raise InputError(f"{source}: expected at most {shipped.LARGEST} bytes, got {size}")
    rows = list(_evaluated(evaluated))
    model = load(source)
    rows += _measured(measured, model.calibration, calibrating)
    training = training_of(structures, source) if structures else old["training"]
    card = Card.model_validate_json(
        json.dumps(
            {
                "kind": "deeph-zero card",
                "format_version": CARD_VERSION,
                "name": name,
                "license": "Apache-2.0",
                **_of_model(model),
                "bytes": size,
                **{key: told[key] for key in told.keys() - {"domain", "run"}},
                "training": training | told.get("run", {}),
                "domain": _domain(model, structures, rows, training, old) | told.get("domain", {}),
                "errors": [_mean(title, part) for title, part in _by_set(rows)],
                "errors_by_atoms": [_mean(title, part) for title, part in _by_atoms(rows)],
                "errors_by_element": [_mean(title, part) for title, part in _by_element(rows)],
            }
        )
    )
    _write(card, source, place)
    write_index(into)
    return card


def _write(card: Card, source: Path, place: Path) -> None:
    """A folder beside it first, so that nothing is ever half there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        new = Path(name) / place.name
        new.mkdir()
        for file in FILES:
            shutil.copyfile(source / file, new / file)
        text = json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False)
        (new / shipped.CARD).write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)


def write_index(folder: Path) -> None:
    """Take the checksums of all models in a folder.

    Args:
        folder: Of the models.
    """
    index = folder / shipped.INDEX
    before = list(json.loads(index.read_text())) if index.exists() else []
    there = sorted(p.name for p in folder.iterdir() if p.is_dir())
    entries: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys([*(n for n in before if n in there), *there]):
        path = folder / name
        entries[name] = {
            file: hashlib.sha256((path / file).read_bytes()).hexdigest() for file in shipped.FILES
        }
    index.write_text(json.dumps(entries, indent=1) + "\n")


def _of_model(model: Model) -> dict[str, Any]:
    meta, method = model.meta, model.method
    found = model.calibration
    return {
        "method": {
            "xc": method.xc,
            "basis": method.basis,
            "auxbasis": meta.get("auxbasis"),
            "density_fit": method.density_fit,
            "grid_level": method.grid_level,
        },
        "inputs": model.network.spec.inputs,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "intervals": None if found is None else {"coverage": found.coverage, "n": float(found.n)},
    }


def _read(files: Sequence[str]) -> list[Molecule]:
    molecules, bad = read_structures(files, charge=0, spin=0)
    for item in bad:
        sys.stderr.write(f"left out: {item}\n")
    return molecules


def training_of(files: Sequence[str], run: Path) -> dict[str, Any]:
    """What was trained on, and the run's own facts.

    Args:
        files: Structures.
        run: Folder with ``summary.json``, if there is one.

    Returns:
        Values of a card's ``training``.
    """
    molecules = _read(files)
    counts = Counter(s for m in molecules for s in symbols(m))
    sizes = [m.natm for m in molecules]
    summary = run / "summary.json"
    known = json.loads(summary.read_text()) if summary.exists() else {}
    config = run / "config.json"
    settings = json.loads(config.read_text()).get("config", {}) if config.exists() else {}
    return {
        "structures": len(molecules),
        "atoms": [min(sizes), max(sizes)],
        "with_element": dict(counts.most_common()),
        "seed": known.get("seed"),
        "wall_time_s": known.get("wall_time_s"),
        "epochs": settings.get("epochs"),
        "steps": settings.get("steps"),
    }


def _domain(
    model: Model,
    files: Sequence[str],
    rows: Sequence[tuple[str, Row]],
    training: dict[str, Any],
    old: dict[str, Any],
) -> dict[str, Any]:
    """Where the card speaks: the sizes of what was trained on and of what was measured."""
    largest = max([training["atoms"][1], *(row[0] for _, row in rows)])
    domain = dict(old.get("domain", {}))
    if files:
        molecules = _read(files)
        steps = max(longest_step(m.coords) for m in molecules) * BOHR_IN_ANGSTROM
        domain["separation"] = round(steps + SPARE, 2)
        domain["elements"] = [s for s in _known(model) if any(s in symbols(m) for m in molecules)]
    states = model.meta.get("states") or [list(model.state)]
    return domain | {"states": [list(state) for state in states], "atoms": largest}


def _known(model: Model) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in sorted(model.elements)]


def _named(texts: Iterable[str]) -> Iterable[tuple[str, Path]]:
    for text in texts:
        name, found, file = text.rpartition("=")
        if not (found and name.strip()):
            raise InputError(f"expected SET=FILE, got {text!r}")
        yield name.strip(), Path(file)


def _evaluated(texts: Sequence[str]) -> Iterable[tuple[str, Row]]:
    """Rows of `deeph-zero evaluate`; the structures are read once more to count their atoms."""
    for name, file in _named(texts):
        entries = json.loads(file.read_text())["structures"]
        places = {entry["file"]: _place(entry["file"], file.parent) for entry in entries}
        atoms = {(m.file, m.frame): m for m in _read(list(dict.fromkeys(places.values())))}
        for entry in entries:
            molecule = atoms.get((places[entry["file"]], entry["frame"]))
            if molecule is None:
                raise InputError(
                    f"{file}: expected its structures here or beside it, got no "
                    f"{entry['file']} frame {entry['frame']} that can be read; start where "
                    "`deeph-zero evaluate` was started"
                )
            yield name, (molecule.natm, frozenset(symbols(molecule)), errors_of(entry))


def _place(name: str, folder: Path) -> str:
    """A structure file as it was named, or beside the evaluation where there is none."""
    beside = folder / name
    return str(beside) if not Path(name).exists() and beside.exists() else name


def errors_of(entry: dict[str, Any]) -> dict[str, float | None]:
    """A card's errors from one structure of an evaluation.

    Args:
        entry: Of ``structures``.

    Returns:
        Absolute values by the names of a card.
    """
    rebuilt, estimates = entry["rebuilt"], entry.get("estimates", {})
    covered, scf = entry.get("covered", {}), entry.get("scf", {})
    found = {
        "fock": entry["fock"]["mae"],
        "rebuilt": rebuilt["mae"],
        "energy": entry["energy_error"],
        "homo": rebuilt["homo_mae"],
        "lumo": rebuilt["lumo_mae"],
        "gap": rebuilt["gap_mae"],
        "dipole": entry["dipole_error"],
        "fine_builds": scf.get("builds_model"),
        "fine_builds_standard": scf.get("builds_minao"),
        "coverage": covered.get("energy"),
    }
    for level in ("homo", "lumo", "gap", "energy"):
        found[f"{level}_estimate"] = estimates.get(f"{level}_error")
        if level != "energy":
            found[f"coverage_{level}"] = covered.get(level)
    return {key: None if value is None else abs(float(value)) for key, value in found.items()}


def _measured(
    texts: Sequence[str], calibration: Calibration | None, calibrating: Sequence[Calibrating]
) -> Iterable[tuple[str, Row]]:
    """Rows of other files; what has a sample and did not calibrate says whether intervals hold."""
    for name, file in _named(texts):
        left_out = {k for path, a, b in calibrating if path == file for k in range(a, b + 1)}
        for k, entry in enumerate(json.loads(file.read_text())["structures"], 1):
            errors = entry["errors"]
            if "sample" in entry and calibration is not None:
                errors = {key: errors[key] for key in errors if not key.startswith("coverage")}
                errors |= {} if k in left_out else covered(entry["sample"], calibration)
            unknown = errors.keys() - Errors.model_fields.keys()
            if unknown:
                raise InputError(f"{file}: unknown errors {sorted(unknown)}")
            found = {key: None if v is None else abs(float(v)) for key, v in errors.items()}
            yield name, (int(entry["atoms"]), frozenset(entry["elements"]), found)


def covered(sample: dict[str, Any], calibration: Calibration) -> dict[str, float]:
    """Whether the intervals of a calibration hold one structure.

    Args:
        sample: A `Sample` of `deeph_zero.predict.intervals` as JSON.
        calibration: That of the model.

    Returns:
        1 or 0 by the names of a card.
    """
    found = {}
    for quantity in ("energy", *LEVELS):
        down, up = reach_of(quantity, sample["energy_error"], calibration)
        key = "coverage" if quantity == "energy" else f"coverage_{quantity}"
        found[key] = float(-down <= sample["errors"][quantity] <= up)
    return found


def _by_set(rows: Sequence[tuple[str, Row]]) -> Iterable[tuple[str, list[Row]]]:
    """The largest set first: its errors stand in the list of models."""
    for name, _ in Counter(name for name, _ in rows).most_common():
        yield name, [row for title, row in rows if title == name]


def _by_atoms(rows: Sequence[tuple[str, Row]]) -> Iterable[tuple[str, list[Row]]]:
    bins: dict[int, list[Row]] = {}
    for _, row in rows:
        bins.setdefault((row[0] - 1) // WIDTH, []).append(row)
    for k in sorted(bins):
        yield f"{WIDTH * k + 1} to {WIDTH * (k + 1)}", bins[k]


def _by_element(rows: Sequence[tuple[str, Row]]) -> Iterable[tuple[str, list[Row]]]:
    for symbol in sorted({s for _, row in rows for s in row[1]}):
        yield symbol, [row for _, row in rows if symbol in row[1]]


def _mean(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """One row of a card's table; a value counts where it was measured."""
    errors = {}
    for field in Errors.model_fields:
        values = [row[2][field] for row in rows if row[2].get(field) is not None]
        errors[field] = sum(values) / len(values) if values else None
    sizes = [row[0] for row in rows]
    return {
        "name": name,
        "structures": len(rows),
        "atoms": [min(sizes), max(sizes)],
        "errors": errors,
    }


if __name__ == "__main__":
    sys.exit(main())
