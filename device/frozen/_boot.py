"""The frozen start: runs first in firmware built with rp2.py or esp32.py of this folder, before any file on the flash.

It mounts the file system, as the port's own `_boot.py` does. A locked board's node then starts from here, where
MicroPython listens to no Ctrl-C: /boot.py and /main.py do not run before it. Any other board goes on as usual.
"""

import sys

_path = sys.path[:]
sys.path[:] = [".frozen"]  # no file of a module's name takes its place

from time import ticks_ms  # noqa: E402

import vfs  # noqa: E402

if sys.platform == "rp2":
    import rp2

    _flash = rp2.Flash()
    try:
        _volume = vfs.VfsLfs2(_flash, progsize=256)
    except OSError:  # a flash without a readable file system gets a new one
        vfs.VfsLfs2.mkfs(_flash, progsize=256)
        _volume = vfs.VfsLfs2(_flash, progsize=256)
    vfs.mount(_volume, "/")
    del _flash, _volume
else:
    from flashbdev import bdev

    try:
        vfs.mount(bdev, "/")
    except OSError:
        __import__("inisetup").setup()
    del bdev

import sentill_start  # noqa: E402

sentill_start.frozen = True
sentill_start.path = _path


# A soft reset, which leaves the clock as it is, comes from the prompt of a session, to return to it.
if ticks_ms() < 2000 and sentill_start.locked():
    if sys.platform == "rp2":
        from machine import USBDevice

        # The port begins with USB after boot.py, which does not come before a locked board's node. What begins here
        # ends at a soft reset: `mpremote resume` does without.
        sentill_start.usb = usb = USBDevice()
        usb.builtin_driver = usb.BUILTIN_DEFAULT
        usb.active(True)
        del usb, USBDevice
    sentill_start.run()
else:
    sys.path[:] = _path
del _path, ticks_ms
