"""A PV guest's p2m: where the guest says that it is, the walk to it, and whether that is still true."""
