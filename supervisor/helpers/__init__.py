"""Helpers: programs that may hang, crash or weigh much, each in a child of the daemon."""
