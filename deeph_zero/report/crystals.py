"""Crystals in a report: bands and the density of states of their real-space blocks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from deeph_zero.data.formats.labels import LabelsSource
from deeph_zero.data.formats.protocol import Record, Shells, read_record
from deeph_zero.data.stored_values import Group
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.hdf5 import open_hdf5
from deeph_zero.model_files.folder import MODEL_STEM
from deeph_zero.molecule import Molecule
from deeph_zero.predict.band_structure import band_structure
from deeph_zero.predict.crystal_blocks import predicted_blocks
from deeph_zero.predict.crystal_model import load_crystal_model
from deeph_zero.report.bands import bands_figure
from deeph_zero.report.data import Structure
from deeph_zero.settings.crystal_config import SmearedCrystalConfig

_CURE = "write the file again"
POINTS = 60
"""k-points along a path."""
SPACING = 0.15
"""Spacing of the k-points of a density of states, 1/bohr."""


def crystal_figures(
    hdf5: Path, structures: Sequence[Structure]
) -> tuple[list[tuple[Structure, str, Figure]], list[str]]:
    """Bands of some crystals.

    Args:
        hdf5: The file with their blocks.
        structures: Those to draw, of this file.

    Returns:
        For each a caption and the figure, and notes on those that have none.
    """
    stored = _stored(hdf5, structures)
    if stored:
        return stored, []
    found: list[tuple[Structure, str, Figure]] = []
    notes: list[str] = []
    try:
        source = LabelsSource(hdf5, _no_shells)
    except InputError as error:
        return [], [f"No bands: {error}."]
    names = [source.group(k) for k in range(len(source))]
    for structure in structures:
        try:
            record = _record(hdf5, source, names.index(str(structure.group)))
            bands = band_structure(record, None, POINTS, dos_spacing=SPACING)
        except (InputError, ComputationError, ValueError) as error:
            notes.append(f"No bands for {structure.name}: {error}.")
            continue
        fermi, gap = bands.entry["fermi"], bands.entry["gap"]
        figure = bands_figure(
            bands.path.distances,
            bands.energies.numpy(),
            (bands.path.ticks, bands.path.labels),
            fermi,
            bands.dos,
            fermi_of_spins=bands.entry.get("fermi_of_spins"),
        )
        facts = [f"path {bands.path.path}"]
        facts += [] if fermi is None else [f"Fermi level {fermi:.5f} Eh"]
        facts += [] if gap is None else [f"gap on the path {gap:.5f} Eh"]
        found.append((structure, f"Bands and density of states: {', '.join(facts)}", figure))
    return found, notes


def _record(hdf5: Path, source: LabelsSource, index: int) -> Record:
    """Blocks of a group: stored ones, or made by the model beside the file, as a run leaves it."""
    with open_hdf5(hdf5) as handle:
        name = source.group(index)
        group = Group(handle[name], f"{hdf5} group {name}", _CURE)
        if "blocks" in group or not (hdf5.parent / f"{MODEL_STEM}.json").is_file():
            return read_record(source, index)
        mesh = group.attributes.get("kmesh", (1, 1, 1))
        moments = tuple(group.array("moments", "fiu").tolist()) if "moments" in group else None
    found, model = source.structure(index), load_crystal_model(hdf5.parent)
    molecule = Molecule(
        numbers=found.numbers,
        coords=found.coords,
        charge=found.charge,
        spin=found.spin,
        lattice=found.lattice,
        pbc=(bool(found.pbc[0]), bool(found.pbc[1]), bool(found.pbc[2])),
        moments=moments,
    )
    settings = model.settings(SmearedCrystalConfig.parse({"kmesh": [int(n) for n in mesh]}))
    return predicted_blocks(model, molecule, settings)


def _stored(hdf5: Path, structures: Sequence[Structure]) -> list[tuple[Structure, str, Figure]]:
    """Figures of bands that `deeph-zero bands` computed; none where the file has blocks."""
    found: list[tuple[Structure, str, Figure]] = []
    with open_hdf5(hdf5) as handle:
        for structure in structures:
            group = Group(handle[str(structure.group)], f"{hdf5} group {structure.group}", _CURE)
            if "blocks" in group or "band_ticks" not in group:
                continue
            energies = group.array("band_energies", "f")
            fermi = group.number("fermi") if "fermi" in group.attributes else None
            own = group.attributes.get("fermi_of_spins")
            names = tuple(str(name) for name in np.atleast_1d(group.attributes["labels"]))
            dos = None
            if "dos" in group:
                states = group.array("dos", "f")
                dos = group.array("dos_energies", "f"), np.atleast_2d(states)
            figure = bands_figure(
                group.array("band_distances", "f"),
                energies if energies.ndim == 3 else energies[None],
                (group.array("band_ticks", "f"), names),
                fermi,
                dos,
                fermi_of_spins=None if own is None else np.ravel(own).tolist(),
            )
            found.append((structure, f"Bands: path {group.text('path')}", figure))
    return found


def _no_shells(numbers: np.ndarray, basis: str) -> Shells:
    raise InputError(f"expected shells in the file, got none for {len(numbers)} atoms ({basis})")
