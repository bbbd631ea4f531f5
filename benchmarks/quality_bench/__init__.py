"""The quality benchmark's parts: data sets, methods, cells, the page."""
