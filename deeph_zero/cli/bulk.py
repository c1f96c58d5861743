"""What `predict`, `label` and `convert` share: structure after structure into one HDF5 file."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeph_zero.cli.options import reporter_for
from deeph_zero.settings.config import RuntimeConfig

if TYPE_CHECKING:
    from deeph_zero.data.structures import BadFrame
    from deeph_zero.host.reporting import ConsoleReporter
    from deeph_zero.host.runtime import Runtime
    from deeph_zero.molecule import Molecule


@dataclasses.dataclass(frozen=True)
class Bulk:
    """One call of such a command.

    Attributes:
        out: The HDF5 file.
        options: The command's options; resume, overwrite, quiet and as_json count here.
        inputs: Files that must not be the output.
        command: The command line as typed.
    """

    out: Path
    options: Mapping[str, Any]
    inputs: Sequence[str | Path]
    command: str

    @property
    def _place(self) -> dict[str, Any]:
        again = {name: self.options[name] for name in ("resume", "overwrite")}
        return {"kind": "file", "inputs": list(self.inputs)} | again

    def begin(self, config: RuntimeConfig) -> "tuple[ConsoleReporter, Runtime]":
        """Refuse a bad output, and set the process up.

        Args:
            config: Threads, device, seed, verbosity.

        Returns:
            Where messages go, and the device.

        Raises:
            InputError: If the output is there already or cannot be written.
        """
        from deeph_zero.host import runtime
        from deeph_zero.host.outputs import check_output

        check_output(self.out, **self._place)
        reporter = reporter_for(config, self.options)
        return reporter, runtime.setup(config)

    def run(
        self,
        compute: Callable[..., dict[str, Any]],
        molecules: "Sequence[Molecule]",
        bad: "Sequence[BadFrame]",
        reporter: "ConsoleReporter",
    ) -> int:
        """Compute, show the summary, and tell a complete result from another.

        Args:
            compute: Given the failures so far, and ``reporter``, ``command``, ``resume`` and
                ``overwrite``.
            molecules: What was asked for.
            bad: Frames that could not be read.
            reporter: Where messages go.

        Returns:
            Exit code 0.

        Raises:
            ComputationError: If something failed or is missing; the output is kept.
        """
        from deeph_zero.cli import show
        from deeph_zero.host.outputs import claim_output

        with claim_output(self.out, **self._place), show.keeping(self.out, self.command):
            summary = compute(
                [b.as_dict() for b in bad],
                reporter=reporter,
                command=self.command,
                resume=self.options["resume"],
                overwrite=self.options["overwrite"],
            )
        show.show_summary(summary, reporter, as_json=self.options["as_json"], out=self.out)
        cure = "; go on with --resume" if summary["stopped_by"] == "max_time" else ""
        show.require_success(summary, out=self.out, asked=len(molecules), cure=cure)
        return 0
