"""A PV guest's p2m: where the guest says it is, the walk to it, its generation, and vcpu state in pfns."""
