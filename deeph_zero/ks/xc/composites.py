"""Semilocal parts of libxc's composite functionals, in terms of elementary ones."""

_BECKE_3 = (("LDA_X", 0.08), ("GGA_X_B88", 0.72))

COMPOSITES: dict[str, tuple[tuple[str, float], ...]] = {
    # A. D. Becke, J. Chem. Phys. 98, 5648 (1993); P. J. Stephens et al., J. Phys. Chem. 98,
    # 11623 (1994): a0 = 0.20, ax = 0.72, ac = 0.81. 402 has VWN's RPA fit, 475 VWN5.
    "HYB_GGA_XC_B3LYP": (*_BECKE_3, ("LDA_C_VWN_RPA", 0.19), ("GGA_C_LYP", 0.81)),
    "HYB_GGA_XC_B3LYP5": (*_BECKE_3, ("LDA_C_VWN", 0.19), ("GGA_C_LYP", 0.81)),
    "HYB_GGA_XC_B3P86": (*_BECKE_3, ("LDA_C_VWN_RPA", 0.19), ("GGA_C_P86", 0.81)),
    # L. Lu, H. Hu, H. Hou, B. Wang, Comput. Theor. Chem. 1015, 64 (2013): refitted.
    "HYB_GGA_XC_REVB3LYP": (
        ("LDA_X", 0.13),
        ("GGA_X_B88", 0.67),
        ("LDA_C_VWN_RPA", 0.16),
        ("GGA_C_LYP", 0.84),
    ),
    # A. D. Becke, J. Chem. Phys. 98, 1372 (1993), doi:10.1063/1.464304: half-and-half.
    "HYB_GGA_XC_BHANDH": (("LDA_X", 0.5), ("GGA_C_LYP", 1.0)),
    "HYB_GGA_XC_BHANDHLYP": (("GGA_X_B88", 0.5), ("GGA_C_LYP", 1.0)),
    # T. Yanai, D. P. Tew, N. C. Handy, Chem. Phys. Lett. 393, 51 (2004),
    # doi:10.1016/j.cplett.2004.06.011: alpha = 0.19, beta = 0.46, omega = 0.33.
    "HYB_GGA_XC_CAM_B3LYP": (
        ("GGA_X_B88", 0.35),
        ("GGA_X_ITYH(0.33)", 0.46),
        ("LDA_C_VWN", 0.19),
        ("GGA_C_LYP", 0.81),
    ),
    # Y. Tawada et al., J. Chem. Phys. 120, 8425 (2004), doi:10.1063/1.1688752.
    "HYB_GGA_XC_LC_BLYP": (("GGA_X_ITYH(0.33)", 1.0), ("GGA_C_LYP", 1.0)),
    # J. Heyd, G. E. Scuseria, M. Ernzerhof, J. Chem. Phys. 118, 8207 (2003) with the parameter of
    # A. V. Krukau et al., J. Chem. Phys. 125, 224106 (2006), doi:10.1063/1.2404663.
    "HYB_GGA_XC_HSE06": (
        ("GGA_X_WPBEH", 1.0),
        ("GGA_X_WPBEH(0.11)", -0.25),
        ("GGA_C_PBE", 1.0),
    ),
    # C. Adamo, V. Barone, Chem. Phys. Lett. 274, 242 (1997), doi:10.1016/S0009-2614(97)00651-9.
    "HYB_GGA_XC_B1LYP": (("GGA_X_B88", 0.75), ("GGA_C_LYP", 1.0)),
    # C. Adamo, V. Barone, J. Chem. Phys. 110, 6158 (1999), doi:10.1063/1.478522.
    "HYB_GGA_XC_PBEH": (("GGA_X_PBE", 0.75), ("GGA_C_PBE", 1.0)),
    "HYB_GGA_XC_PBE_SOL0": (("GGA_X_PBE_SOL", 0.75), ("GGA_C_PBE_SOL", 1.0)),
    # S. Grimme, J. Phys. Chem. A 109, 3067 (2005), doi:10.1021/jp050036j: 3/8 exact exchange.
    "HYB_GGA_XC_PBE38": (("GGA_X_PBE", 0.625), ("GGA_C_PBE", 1.0)),
    "HYB_GGA_XC_PBE50": (("GGA_X_PBE", 0.5), ("GGA_C_PBE", 1.0)),
    # V. N. Staroverov et al., J. Chem. Phys. 119, 12129 (2003), doi:10.1063/1.1626543.
    "HYB_MGGA_XC_TPSSH": (("MGGA_X_TPSS", 0.90), ("MGGA_C_TPSS", 1.0)),
    # S. Grimme, J. Phys. Chem. A 109, 3067 (2005), doi:10.1021/jp050036j.
    "HYB_MGGA_XC_TPSS0": (("MGGA_X_TPSS", 0.75), ("MGGA_C_TPSS", 1.0)),
    # K. Hui, J.-D. Chai, J. Chem. Phys. 144, 044114 (2016), doi:10.1063/1.4940734: exchange only.
    "HYB_MGGA_X_SCAN0": (("MGGA_X_SCAN", 0.75),),
    # M. Bursch et al., J. Chem. Phys. 156, 134105 (2022), doi:10.1063/5.0086040.
    "HYB_MGGA_XC_R2SCANH": (("MGGA_X_R2SCAN", 0.90), ("MGGA_C_R2SCAN", 1.0)),
    "HYB_MGGA_XC_R2SCAN0": (("MGGA_X_R2SCAN", 0.75), ("MGGA_C_R2SCAN", 1.0)),
    "HYB_MGGA_XC_R2SCAN50": (("MGGA_X_R2SCAN", 0.50), ("MGGA_C_R2SCAN", 1.0)),
}
"""libxc name -> (elementary functional, coefficient) pairs; exact exchange is not part of it."""
