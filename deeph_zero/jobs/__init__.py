"""Commands that go through many structures: one loop, its journal and workers, and each job."""
