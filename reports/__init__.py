"""Reports: records to data, data to figures, both to Markdown and HTML."""
