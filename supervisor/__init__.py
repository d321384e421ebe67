"""A supervisor for one unstable machine that trains models."""
