"""``python -m harness``: the command line, as ``torchrun -m harness`` starts it."""

from harness.cli import main

main()
