"""Programs that learn: each a process of its own, a command line and a run folder."""
