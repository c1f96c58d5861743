"""``deeph-zero doctor``: what is installed, what it runs on, and whether it computes correctly."""

import importlib.metadata
import importlib.util
import platform
from typing import Any

import rich_click as click

from deeph_zero.cli.options import Invocation, common_options, reporter_for, runtime_values
from deeph_zero.errors import ComputationError
from deeph_zero.host.files import to_json
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.version import __version__
from deeph_zero.settings.config import RuntimeConfig

PACKAGES = (
    "torch", "pyscf", "pytorch-lightning", "numpy", "scipy", "ase", "h5py", "pydantic",
    "safetensors",
)  # fmt: skip
OPTIONAL = {
    "rdkit": "SMILES and conformers",
    "torch_scatter": "sums of messages in a fixed order on a GPU",
    "pyscf.dispersion": "dispersion corrections",
    "tensorboard": "live training curves",
    "ray": "label, predict and evaluate over many machines",
    "lmdb": "writing LMDB files",
}


@click.command()
@common_options
@click.pass_obj
def doctor(invocation: Invocation, **options: Any) -> int:
    """Show versions and devices, and run a ten-second self-check.

    \b
    Example:
      deeph-zero doctor
      deeph-zero doctor --json
    """  # noqa: D301  (\b is click's mark)
    from deeph_zero.cli.selfcheck import kernels, run_checks
    from deeph_zero.host import runtime

    config = RuntimeConfig.parse(runtime_values(options, invocation.started))
    reporter = reporter_for(config, options)
    resolved = runtime.setup(config)
    report = describe_installation(str(resolved.device), resolved.threads)
    checks = run_checks(str(resolved.device))
    report["self_check"] = [check.as_dict() for check in checks]
    report["ok"] = all(check.passed for check in checks)
    report["counts"], uncounted = None, ""
    if resolved.device.type == "cuda":
        try:
            report["counts"] = kernels(str(resolved.device))
        except Exception as error:  # counts are for information: what a profiler meets ends nothing
            uncounted = f" ({type(error).__name__}: {str(error).partition(chr(10))[0][:160]})"
    if options["as_json"]:
        click.echo(to_json(report))
    else:
        _show(report, reporter, uncounted)
    bad = [check for check in checks if not check.passed]
    if bad:
        found = bad[0].error or f"{bad[0].value:.1e}"
        raise ComputationError(
            f"self-check failed: {bad[0].name}: expected at most {bad[0].limit:.0e}, got {found}; "
            f"{bad[0].cure}"
        )
    return 0


def describe_installation(device: str, threads: int) -> dict[str, Any]:
    """Versions, devices and optional engines.

    Args:
        device: The resolved device.
        threads: The resolved thread count.

    Returns:
        Plain values for JSON.
    """
    import torch

    from deeph_zero.integrals import no_eval

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "devices": ["cpu", *(f"cuda:{k} {torch.cuda.get_device_name(k)}" for k in range(count))],
        "device": device,
        "threads": threads,
        "pyscf_eval": "on" if no_eval.left_on() else "off",
        "pyscf_settings": no_eval.configuration_file(),
        "optional": {name: _present(name) for name in OPTIONAL},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _present(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _cuda(report: dict[str, Any]) -> str:
    """What torch was built for, and whether it sees a card."""
    from deeph_zero.host.runtime import NEW_DRIVER

    if report["cuda"] is None:
        return "none, this build is for the processor"
    seen = len(report["devices"]) > 1
    return report["cuda"] + ("" if seen else f", but it sees no card: install {NEW_DRIVER}")


def _show(report: dict[str, Any], reporter: Reporter, uncounted: str) -> None:
    versions = {"deeph-zero": report["version"], "python": report["python"]} | report["packages"]
    rows = [[name, str(version or "missing")] for name, version in versions.items()]
    reporter.table("versions", ["package", "version"], rows)
    reporter.message(f"CUDA of torch: {_cuda(report)}")
    reporter.message(f"devices: {', '.join(report['devices'])}; used: {report['device']}")
    reporter.message(f"threads: {report['threads']}")
    reporter.message(f"Python in basis texts (PySCF's eval): {report['pyscf_eval']}")
    reporter.message(f"settings of PySCF: {report['pyscf_settings']}")
    rows = [
        [name, "present" if there else "not installed", OPTIONAL[name]]
        for name, there in report["optional"].items()
    ]
    reporter.table("optional engines", ["module", "state", "for"], rows)
    rows = [
        [
            check["name"],
            check["error"] or f"{check['value']:.1e}",
            f"{check['limit']:.0e}",
            f"{check['seconds']:.1f} s",
            "passed" if check["passed"] else "FAILED",
        ]
        for check in report["self_check"]
    ]
    reporter.table("self-check", ["check", "deviation", "limit", "time", "result"], rows)
    if report["device"].startswith("cuda"):
        counts = report["counts"] or {}
        said = ", ".join(f"{n} {name}" for name, n in counts.items())
        said = said or f"not counted, torch's profiler sees no card{uncounted}"
        reporter.message(f"one Fock build of two molecules in a batch on the device: {said}")
