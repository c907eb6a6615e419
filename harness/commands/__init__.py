"""The commands of the command line, one module each; torch is imported inside them only."""
