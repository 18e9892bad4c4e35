"""What this host has of Xen and of pyxcsr, and what that is enough for."""
