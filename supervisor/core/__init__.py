"""The brain: pure functions over frozen values. No clock, file, process or GPU."""
