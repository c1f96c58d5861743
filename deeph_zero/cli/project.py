"""``deeph-zero project``: a potential of a plane-wave program in an AO basis."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from deeph_zero.cli.options import (
    InputName,
    Invocation,
    common_options,
    default_output,
    given,
    output_option,
    overwrite_option,
    reporter_for,
    runtime_values,
    setting,
)
from deeph_zero.errors import InputError
from deeph_zero.settings.project_config import ProjectConfig

if TYPE_CHECKING:
    from deeph_zero.jobs.projection_setup import Given

_BASIS = "gth-dzvp-molopt-sr"
_OWN = (
    "unit", "charge", "spin", "kmesh", "block_mesh", "ke_cutoff", "smearing", "path", "points",
)  # fmt: skip


@click.command()
@click.argument("potential", metavar="POTENTIAL", type=InputName())
@click.argument("structure", metavar="STRUCTURE", type=InputName())
@output_option
@click.option(
    "--basis",
    multiple=True,
    metavar="NAME|FILE",
    help="Gaussian basis by name or file, or SIESTA's .ion file of each element (repeat it). "
    f"(default: {_BASIS})",
)
@click.option(
    "--pseudo",
    multiple=True,
    metavar="NAME|FILE",
    help="UPF file of an element (repeat it), or GTH pseudopotentials by name, such as gth-pbe, "
    "for all others; none where the potential is that of the bare nuclei.",
)
@click.option(
    "--down",
    type=InputName(),
    metavar="FILE",
    help="Potential of spin down, where POTENTIAL is that of spin up alone.",
)
@setting(ProjectConfig, "unit", metavar="UNIT")
@setting(ProjectConfig, "charge", metavar="N")
@setting(ProjectConfig, "spin", metavar="2S")
@setting(ProjectConfig, "kmesh", metavar="N1 N2 N3", nargs=3)
@setting(ProjectConfig, "block_mesh", metavar="N1 N2 N3", nargs=3)
@setting(ProjectConfig, "ke_cutoff", metavar="EH")
@setting(ProjectConfig, "smearing", metavar="EH")
@setting(ProjectConfig, "path", metavar="LETTERS")
@setting(ProjectConfig, "points", metavar="N")
@overwrite_option
@common_options
@click.pass_obj
def project(invocation: Invocation, **options: Any) -> int:
    """Make the AO Hamiltonian of a Kohn-Sham potential on a grid.

    POTENTIAL is a Gaussian cube, BerkeleyGW's VSC (of Quantum ESPRESSO's pw2bgw.x), or a .npy of
    [n1, n2, n3] (two spins: [2, n1, n2, n3]); STRUCTURE is the crystal that it was computed for.
    Kinetic energy, local potential and the non-local part of the pseudopotentials become
    real-space blocks and bands. How good they are is decided by how complete the basis is.

    \b
    Example:
      deeph-zero project VSC pw.in --pseudo Mo.upf --pseudo S.upf -o mos2.h5 --path GKMG
      deeph-zero project v.npy si.cif --basis gth-dzvp --pseudo gth-pade --kmesh 4 4 4
    """  # noqa: D301  (\b is click's mark)
    values = given(options, _OWN)
    runtime = {"runtime": runtime_values(options | {"max_time": None}, invocation.started)}
    config = ProjectConfig.parse(values | runtime)
    return _Call(config, options, invocation.command).run()


class _Call:
    """One call of the command."""

    def __init__(self, config: ProjectConfig, options: dict[str, Any], command: str) -> None:
        self._config, self._options, self._command = config, options, command
        self._out = Path(options["output"] or default_output([options["potential"]], "_ao.h5"))

    def run(self) -> int:
        """Read, check, compute, and say what came of it."""
        from deeph_zero.cli.show_project import show_projection
        from deeph_zero.host import runtime
        from deeph_zero.host.outputs import check_output, claim_output
        from deeph_zero.jobs.project import run_project

        options = self._options
        place: dict[str, Any] = {
            "kind": "file", "overwrite": options["overwrite"], "inputs": self._inputs(),
        }  # fmt: skip
        check_output(self._out, **place)
        reporter = reporter_for(self._config.runtime, options)
        runtime.setup(self._config.runtime)
        if self._config.runtime.device not in ("auto", "cpu"):
            reporter.warning("--device: projections are computed on the CPU; it is not used")
        handed = self._read(reporter)
        with claim_output(self._out, **place):
            summary = run_project(
                self._config, handed, self._out, reporter=reporter, command=self._command
            )
        show_projection(summary, reporter, as_json=options["as_json"])
        return 0

    def _inputs(self) -> list[str]:
        options = self._options
        named = [options["potential"], options["structure"], options["down"]]
        return [n for n in (*named, *options["basis"], *options["pseudo"]) if n]

    def _read(self, reporter: Any) -> "Given":
        from deeph_zero.data.potentials.read import read_potential
        from deeph_zero.data.radial.choice import choose_basis, choose_pseudopotentials
        from deeph_zero.jobs.projection_setup import Given, one_structure
        from deeph_zero.settings.basis_file import read_basis_file

        options, path = self._options, Path(self._options["potential"])
        down = None if options["down"] is None else Path(options["down"])
        potential = read_potential(path, down=down, unit=self._config.unit)
        charge, spin = self._config.charge, self._config.spin
        structure = one_structure(options["structure"], potential, path, charge, spin)
        numbers = structure.numbers.tolist()
        pseudos = choose_pseudopotentials(options["pseudo"], numbers)
        for z, found in pseudos.upf.items():
            if found.spin_orbit:
                reporter.warning(
                    f"the pseudopotential of element {z} has spin-orbit coupling, which is "
                    "averaged over: the Hamiltonian is scalar-relativistic"
                )
        basis = choose_basis(options["basis"] or (_BASIS,), numbers, pseudos, read_basis_file)
        if options["structure"] == options["potential"] and potential.kind != "vsc":
            raise InputError("STRUCTURE: expected the crystal's own file, got the potential's")
        return Given(
            potential=potential,
            structure=structure,
            basis=basis,
            pseudopotentials=pseudos,
            path=path,
            fix_spin=self._config.spin is not None,
        )
