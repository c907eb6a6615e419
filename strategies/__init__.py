"""Freezing strategies, one file each; they import harness.contracts only."""
