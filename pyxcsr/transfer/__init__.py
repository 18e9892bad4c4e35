"""The algorithms: saving, restoring, and putting right what a killed saver has left."""
