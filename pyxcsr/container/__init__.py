"""Containers of a libxc stream: libxl streams and save files of xl."""
