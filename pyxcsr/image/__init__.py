"""A saved guest as data: its memory by pfn, its registers, dumps that debuggers read."""
