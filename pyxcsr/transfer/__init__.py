"""The algorithms: saving, restoring, following, recovering."""
