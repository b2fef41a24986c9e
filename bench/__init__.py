"""Measurements of Onecode on one machine: `make bench`, docs/performance.md."""
