"""The stub hypervisor: guests as text, the machine, its domains."""
