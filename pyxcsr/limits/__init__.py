"""What an operator asks of a save: how long the guest may stand, how long the whole may take, how fast it may be."""
