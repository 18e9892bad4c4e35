"""HVM and PVH guests."""
