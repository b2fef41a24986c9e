"""Onecode: print one QR once; any payment platform can start accepting it later."""

__version__ = "0.1.0"
