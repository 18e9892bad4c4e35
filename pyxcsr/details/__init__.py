"""What the records of a stream say in detail: registers, Xen's HVM state, CPUID leaves and MSRs by name."""
