"""A save that runs can be seen and steered: a socket and a lock for each, and lines of JSON.

Nothing here may fail a save, block it, or cost a paused guest time. docs/control.md has the messages. Few modules are
loaded before there is a client, and no dataclass: the save helper starts while a guest's user waits.
"""
