"""``pyxcsr-save-helper``: the program that ``LIBXL_SAVE_HELPER`` names.

Nothing is imported here: the program starts while a guest's user waits for it.
"""
