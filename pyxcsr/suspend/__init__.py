"""Suspending a guest: what a saver asks of whoever does it (base), and the ways to do it."""
