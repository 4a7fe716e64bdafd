"""Small files of the node, replaced whole: after a power cut there is the old file or the new one."""

import os


class Store:
    """Files below the folder `root` (with its slash).

    `erases` estimates the flash blocks erased by `save`: one per file.
    """

    def __init__(self, root: str):
        self._root = root
        self.erases = 0

    def path(self, name: str) -> str:
        """Where the file `name` lies."""
        return self._root + name

    def load(self, name: str):
        """The bytes of a file, None when it is not there or cannot be read."""
        try:
            with open(self._root + name, "rb") as file:
                return file.read()
        except OSError:
            return None

    def save(self, name: str, data) -> None:
        """Write a file; raises OSError. The new content is closed under another name before it takes the place."""
        path = self._root + name
        with open(path + ".new", "wb") as file:
            file.write(data)
        os.rename(path + ".new", path)
        self.erases += 1

    def take(self, name: str) -> bool:
        """Remove a file; whether it was there."""
        try:
            os.remove(self._root + name)
        except OSError:
            return False
        return True
