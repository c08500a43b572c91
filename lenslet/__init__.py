"""Lenslet: a folder of photos served over HTTP, with everything it knows in files beside them."""

__version__ = "0.1.0"
