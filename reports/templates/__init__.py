"""Jinja2 templates of the report."""
