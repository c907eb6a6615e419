"""The harness: plan a grid of transfer-learning runs, share what is frozen, record what was seen."""
