"""Systems made ready for the network; prediction and training begin here."""
