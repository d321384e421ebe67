"""What belongs to this machine: clocks, readings, GPUs, processes, homes, and where it starts."""
