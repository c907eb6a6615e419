"""Networks in named stages."""
