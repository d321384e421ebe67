"""Jobs that people and programs submit: what they may ask for, and what becomes of it."""
