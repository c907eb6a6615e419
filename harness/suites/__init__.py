"""Suites: grids of runs with their published references."""
