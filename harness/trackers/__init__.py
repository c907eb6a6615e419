"""Trackers: exporters of what run folders hold. None is needed for anything else."""
