"""The process, the terminal and the disk: nothing here knows physics."""
