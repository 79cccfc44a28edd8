"""Figures, rows and charts of a run, as text, SVG and PNG. Pure."""
