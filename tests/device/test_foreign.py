"""Code on the flash that is not the node's: what counts as such, and what it is told of."""

import os

from sentill.errors import SentillError
from sentill.node import foreign_code as foreign
from support import raises, scratch_path


class Stub:
    """As much of a node and its hardware as the look at the flash needs; `notes` is what it recorded."""

    def __init__(self, root):
        self.hal = self.audit = self
        self.root = root
        self.notes = []

    def note(self, kind, pairs):
        self.notes.append(dict(pairs))

    def tell(self, error):
        return error.message

    def fault(self, part, error):
        self.notes.append(part)


def folder(name, files):
    root = scratch_path(name)
    os.mkdir(root)
    for path, content in files.items():
        at = 0
        while "/" in path[at:]:
            at = path.index("/", at) + 1
            try:
                os.mkdir(root + "/" + path[: at - 1])
            except OSError:
                pass  # it is there
        with open(root + "/" + path, "wb") as file:
            file.write(content)
    return root + "/"


OURS = {
    "main.py": b"import micropython\n",
    "sentill_start.mpy": b"M\x06",
    "slot_a.img": b"\xd2\xcd\x31",
    "slot": b"a",
    "config.json": b"{}",
    "journal/b0": b"block.py",
}


def test_a_board_with_nothing_else_has_no_foreign_code():
    root = folder("ours", OURS)
    assert foreign.look(root) == []
    node = Stub(root)
    foreign.refuse(node)
    foreign.report(node)
    assert node.notes == []


def test_code_in_the_root_and_in_folders_is_found():
    planted = (
        "boot.py",
        "hashlib.py",
        "micropython.mpy",
        "sentill/__init__.py",
        "lib/pkg/deep/x.mpy",
        "sentill_start/__init__.py",
    )
    for number, path in enumerate(planted):
        root = folder("planted%d" % number, dict(OURS, **{path: b"print(1)\n"}))
        assert foreign.look(root) == [root + path], path
        node = Stub(root)
        assert raises(SentillError, foreign.refuse, node).code == "foreign"
        foreign.report(node)
        recorded, fault = node.notes
        assert recorded["ev"] == "foreign" and path in recorded["code"] and fault == "foreign"


def test_a_start_in_source_counts_where_it_would_run_in_place_of_ours():
    plain = {"main.py": b"import micropython\n", "sentill_start.py": b"import sys\n"}
    assert foreign.look(folder("plain", plain)) == []
    root = folder("both", dict(OURS, **{"sentill_start.py": b"import sys\n"}))
    assert foreign.look(root) == [root + "sentill_start.py"]
    root = folder("deeper", dict(OURS, **{"lib/main.py": b"import sys\n"}))
    assert foreign.look(root) == [root + "lib/main.py"]


def test_a_boot_py_of_comments_is_no_code():
    stock = b"# This file is executed on every boot\n#import esp\n\n  # nothing\r\n"
    assert foreign.look(folder("stock", dict(OURS, **{"boot.py": stock}))) == []
    for number, content in enumerate((stock + b"import x\n", b"\n" * 1100 + b"import x\n", stock + b"# a\rimport x\n")):
        root = folder("woken%d" % number, dict(OURS, **{"boot.py": content}))
        assert foreign.look(root) == [root + "boot.py"], content


def test_many_and_deep_ones_end_the_look():
    root = folder("many", dict(OURS, **{"m%d.py" % i: b"import x\n" for i in range(20)}))
    assert len(foreign.look(root)) == 8
    root = folder("deep", dict(OURS, **{"a/b/c/d/e/f/x.py": b"import x\n"}))
    assert foreign.look(root) == [root + "a/b/c/d/e"]


def test_a_folder_that_is_called_like_a_file_is_found():
    root = folder("trick", dict(OURS, **{"boot.py/x": b"1"}))
    assert foreign.look(root) == [root + "boot.py"]
