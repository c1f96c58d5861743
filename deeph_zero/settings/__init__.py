"""Settings: their types and checks, the commands' settings, and their TOML file."""
