"""`xl migrate` with pyxcsr at both ends: what is checked before it, how it is run, and what is asked after it."""
