"""Learns forecasts from tables: what it has learnt after a kill is what it would have learnt."""
