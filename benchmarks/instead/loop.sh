#!/bin/sh
# Typed into a terminal, and left there.
while true; do
    "$PYTHON" "$HERE/cartpole.py" "$RUN" "$SAVE_STEPS"
    sleep 1
done
