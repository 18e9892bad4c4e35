"""Hypervisors: what the savers need of one, libxenctrl through cffi, and how to open it."""
