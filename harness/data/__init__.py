"""Reading images and labels: datasets, splits, decoding."""
