"""What must hold of a stream, and who says so."""
