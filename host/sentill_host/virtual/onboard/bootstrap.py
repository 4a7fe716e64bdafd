# Runs first on a virtual board, in __main__: puts the flash in place of the computer's files, then boot.py and main.py.
# MARK is set by the supervisor on the line before this file.


def _sentill_boot():
    import micropython

    micropython.kbd_intr(-1)  # Ctrl-C belongs to boot.py and main.py, not to this
    import gc
    import io
    import os
    import sys

    import vfs

    class Onboard:
        # A file system of the few modules the supervisor hands over in one file: a dict of names, then the sources.
        def __init__(self):
            self._file = open(7, "rb")
            self._index = eval(self._file.readline())

        def mount(self, readonly, mkfs):
            pass

        def umount(self):
            self._file.close()

        def stat(self, path):
            if path in self._index:
                return (0x8000, 0, 0, 0, 0, 0, self._index[path][1], 0, 0, 0)
            raise OSError(2)

        def open(self, path, mode):
            self._file.seek(self._index[path][0])
            return io.BytesIO(self._file.read(self._index[path][1]))

    vfs.umount("/")
    vfs.mount(Onboard(), "/.onboard")
    sys.path[:] = ["/.onboard"]
    import bridge
    import machine
    import nor
    import page

    for name in ("bridge", "nor", "page"):
        del sys.modules[name]
    size = bridge.u32(page.FLASH_BLOCKS)
    flash = nor.Flash(0, size)
    machine.file_flash = nor.Raw(0, size)
    machine.raw_flash = nor.Raw(size, bridge.u32(page.RAW_BLOCKS))
    sizes = {"readsize": 32, "progsize": bridge.u32(page.PROGRAM_BYTES), "lookahead": 32}
    try:
        volume = vfs.VfsLfs2(flash, **sizes)
    except OSError:
        # As the boards' own boot code does: a flash without a readable file system gets a new one.
        vfs.VfsLfs2.mkfs(flash, **sizes)
        bridge.add_u32(page.FORMATS, 1)
        volume = vfs.VfsLfs2(flash, **sizes)
    vfs.umount("/.onboard")
    vfs.mount(volume, "/")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = []
    skip_main = bridge.u32(page.BOOT_FLAGS) & page.SKIP_MAIN
    del Onboard, machine, volume, flash, nor, size, sizes, name
    gc.collect()
    bridge.tell("ready")
    for path in ("boot.py",) if skip_main else ("boot.py", "main.py"):
        try:
            file = open(path)
        except OSError:
            continue
        try:
            try:
                with file:
                    program = compile(file.read(), path, "exec")
                # As on a chip: Ctrl-C is listened to while a file runs, not while it is read and compiled.
                micropython.kbd_intr(3)
                exec(program)
            finally:
                micropython.kbd_intr(-1)  # an interrupt under way is raised here at the latest
                program = None
        except SystemExit:
            raise
        except BaseException as error:
            text = io.StringIO()
            sys.print_exception(error, text)
            # The frames of this file are not the program's.
            for line in text.getvalue().split("\n")[:-1]:
                if 'File "<stdin>"' not in line or "_sentill_boot" not in line and "in <module>" not in line:
                    print(line)
            error = text = None
    gc.collect()
    bridge.tell("repl")
    if skip_main:
        sys.stdout.write(MARK)  # noqa: F821  (set by the supervisor)


_sentill_boot()
del _sentill_boot, MARK  # noqa: F821
