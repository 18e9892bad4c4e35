"""PV guests."""
