"""What a small change of the orbitals does: rotations, Hessians, stability, dielectric step."""
