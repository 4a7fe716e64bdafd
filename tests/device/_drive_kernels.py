"""For tests/test_interpreters.py: does this interpreter run the native kernels?"""

from sentill.compat import native


def has(name):
    """Whether the kernels of the module sentill.`name` are there."""
    return native(*name.split(".")) is not None
