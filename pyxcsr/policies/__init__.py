"""Policies with a name: when to stop copying and suspend the guest."""
