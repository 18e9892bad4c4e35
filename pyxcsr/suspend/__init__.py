"""Suspending a guest: what a saver asks of whoever suspends it (base), and the ways to do it."""
