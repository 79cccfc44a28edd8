"""The version of the package; the build reads it without importing the package. Pure."""

__version__ = "0.2.0"
