"""What saving a guest means, by its type: the save-ops table."""
