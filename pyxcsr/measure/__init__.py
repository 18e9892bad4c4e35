"""Measuring how a guest writes its memory, without saving it; and what a save would come to."""
