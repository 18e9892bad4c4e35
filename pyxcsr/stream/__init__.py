"""The libxc migration stream: bytes and rules, without any hypervisor.

``format`` constants and layouts, ``records`` typed records, ``reader`` a stream as an iterator of records,
``verify`` the rules, ``survey`` sums over a stream.
"""
