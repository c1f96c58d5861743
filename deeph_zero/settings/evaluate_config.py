"""Settings of ``deeph-zero evaluate``."""

from pydantic import Field

from deeph_zero.settings.base import Settings
from deeph_zero.settings.config import RuntimeConfig
from deeph_zero.settings.value_types import CloseContacts, EngineName, FrameCharge, FrameSpin


class EvaluateConfig(Settings):
    """A model's errors."""

    runtime: RuntimeConfig = RuntimeConfig()
    scf: bool = Field(
        default=True, description="Count the SCF iterations that the prediction saves."
    )
    conv_tol: float = Field(default=1e-9, gt=0, le=1, description="Energy change to stop at, Eh.")
    max_cycle: int = Field(default=100, ge=1, le=10_000, description="SCF iterations at most.")
    two_grids: bool = Field(
        default=True, description="Iterate on two grids, as MethodConfig has it."
    )
    engine: EngineName = "local"
    charge: FrameCharge = None
    spin: FrameSpin = None
    allow_close_contacts: CloseContacts = False
