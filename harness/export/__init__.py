"""A run's network as files that stand alone: what they hold, how they are written, how they are checked."""
