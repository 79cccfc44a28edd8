"""Figures, rows and charts as text and SVG. Pure."""
