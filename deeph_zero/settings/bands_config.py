"""Settings of ``deeph-zero bands``."""

from pydantic import Field

from deeph_zero.settings.base import Settings
from deeph_zero.settings.config import RuntimeConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig
from deeph_zero.settings.value_types import CloseContacts, FrameCharge, FrameSpin, Name


class BandsConfig(Settings):
    """Bands and densities of states from real-space blocks."""

    path: Name | None = Field(
        default=None,
        description="Special points along which the bands go, such as GMKG, a comma where it "
        "jumps; none means ASE's path for the kind of lattice.",
    )
    points: int = Field(default=60, ge=2, le=100_000, description="k-points along the path.")
    dos: bool = Field(default=False, description="The density of states too.")
    width: float = Field(
        default=0.005,
        gt=0,
        le=1,
        description="Standard deviation of the Gaussians of the density of states, Eh.",
    )
    dos_spacing: float = Field(
        default=0.1,
        gt=0,
        le=10,
        description="Widest spacing of the k-points of the density of states, 1/bohr.",
    )
    charge: FrameCharge = None
    spin: FrameSpin = None
    allow_close_contacts: CloseContacts = False
    crystal: SmearedCrystalConfig = SmearedCrystalConfig()
    runtime: RuntimeConfig = RuntimeConfig()
