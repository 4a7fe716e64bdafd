"""For tools/size_report.py: heap bytes an import keeps."""

import gc


def import_bytes(name):
    """Bytes of heap in use after importing the module `name`, less those in use before."""
    gc.collect()
    before = gc.mem_alloc()
    __import__(name)
    gc.collect()
    return gc.mem_alloc() - before
