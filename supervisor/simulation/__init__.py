"""Made-up machines, lived through by the real decision code in milliseconds."""
