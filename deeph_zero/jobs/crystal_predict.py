"""One crystal of ``deeph-zero predict``: its matrices, blocks and certificate as a record."""

from collections.abc import Callable

from deeph_zero.host.saying import Naming
from deeph_zero.jobs.crystals import elements_of
from deeph_zero.jobs.journal import Record, digest
from deeph_zero.molecule import Molecule
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.predict.crystal_record import (
    crystal_prediction_entry,
    crystal_prediction_group,
    prediction_blocks,
    sparse_group,
)
from deeph_zero.predict.record import bare_record
from deeph_zero.settings.config import PredictConfig


def _sparse_record(
    index: int,
    molecule: Molecule,
    model: CrystalModel,
    config: PredictConfig,
    say: Callable[[str], None],
) -> Record:
    """Blocks and the levels around the Fermi level of a large crystal."""
    found = model.predict_sparse_structure(molecule, model.settings(config.crystal))
    say(f"{found.hamiltonian.nao} functions: sparse blocks and no matrices at k-points are written")
    ends = found.ends()
    arrays, attributes = sparse_group(found, ends.fermi)
    entry = bare_record(molecule, converged=None)
    entry |= {"homo": ends.homo, "lumo": ends.lumo, "gap": max(0.0, ends.lumo - ends.homo)}
    return Record(
        index=index,
        digest=digest(molecule),
        arrays=arrays,
        attributes=attributes,
        entry=entry | {"fermi": ends.fermi},
        auxbasis=None,
        fock_builds=0,
    )


def predict_crystal_record(
    index: int,
    molecule: Molecule,
    model: CrystalModel,
    config: PredictConfig,
    warn: Callable[[str], None],
    *,
    naming: Naming,
) -> Record:
    """Predict a crystal.

    Args:
        index: Its position among the structures.
        molecule: The structure.
        model: The model.
        config: Settings.
        warn: Takes a line.
        naming: Names the structure in warnings of a refinement.

    Returns:
        The result.

    Raises:
        InputError: If it cannot be computed.
        ComputationError: If the network's output is not finite.
    """
    say = lambda text: warn(molecule.where + text)  # noqa: E731
    # warnings about the cell came before the first structure
    if config.plain and model.is_large(molecule):
        return _sparse_record(index, molecule, model, config, say)
    with naming.of(molecule.where, elements_of(molecule)):
        found = model.predict_structure(
            molecule,
            model.settings(config.crystal),
            refine=config.refine,
            certificate=config.certificate,
            coupled=config.coupled,
            forces=config.forces,
        )
    arrays, attributes = crystal_prediction_group(found)
    arrays |= prediction_blocks(found, say)
    return Record(
        index=index,
        digest=digest(molecule),
        arrays=arrays,
        attributes=attributes,
        entry=crystal_prediction_entry(found),
        auxbasis=None,
        fock_builds=found.ks.fock_builds,
        coarse_builds=found.coarse_builds,
    )
