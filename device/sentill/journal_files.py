"""The journal's store on littlefs: small tail files that are merged, one flash block at a time.

littlefs rewrites the whole last block of a file on each append, unless the file is so small that it lives in its
folder's own block: up to min(cache, block/8) bytes, 128 when flash is programmed by 32 bytes, 512 when by 256 (448
bytes wear it less: their commit needs one program less). So records first go into tail files of that size,
`FOLDER/t/SEQUENCE`. When those fill a block, `tidy` copies them into one file `FOLDER/SEQUENCE`, headed like a journal
file, and removes them. Retention removes whole files, the oldest first.
"""

from struct import unpack_from

from .compat import borrow, const
from .errors import StorageError
from .journal import FILE_HEAD, GENERATION, HEAD, MAX, TAG, file_head

_BACKLOG = const(3)  # blocks of tail files at which append merges by itself


class FileStore:
    """Journal store in `folder` of the littlefs `fs`, keeping at least the last `keep` records.

    `tail_bytes` is the longest file that littlefs keeps in its folder's block, `block_bytes` the flash block.
    """

    def __init__(self, fs, folder: str = "/journal", keep: int = 5120, tail_bytes: int = 128, block_bytes: int = 4096):
        self.next = 0
        self._fs = fs
        self._folder = folder
        self._keep = keep
        self._tail_bytes = tail_bytes
        self._block_bytes = block_bytes
        self._device = b""
        self._blocks = []  # first sequence of each merged file
        self._tails = []  # (first sequence, bytes) of each tail file
        self._generation = 0  # as of the end of the last merged file
        self._start = 0

    @property
    def first(self) -> int:
        """Sequence of the oldest record held; `next` when there is none."""
        if self._blocks:
            return self._blocks[0]
        return self._tails[0][0] if self._tails else self.next

    def open(self, device) -> None:
        """Find the records of `device` (8 bytes) and remove what a power cut left behind."""
        fs = self._fs
        self._device = bytes(device)
        self._blocks = []
        for name, size in _names(fs, self._folder):
            if size <= FILE_HEAD:
                fs.remove(self._folder + "/" + name)
            else:
                self._blocks.append(int(name, 16))
        tails = _names(fs, self._folder + "/t")
        # Tails are removed oldest first, after their block is closed: a block whose first tail is there may be half.
        if self._blocks and tails and int(tails[0][0], 16) == self._blocks[-1]:
            fs.remove(self._block(self._blocks.pop()))
        end = self._generation = self._start = 0
        if self._blocks:
            end = self._blocks[-1]
            with fs.open(self._block(end), "rb") as f:
                self._generation, self._start = unpack_from("<HI", f.read(FILE_HEAD), 12)
                end = self._follow(_read(f))
        self._tails = []
        for name, size in tails:
            first = int(name, 16)
            if not size or first < end:
                fs.remove(self._folder + "/t/" + name)
            else:
                self._tails.append((first, size))
        self.next = end
        for record in self.records(self._tails[-1][0] if self._tails else end):
            self.next = unpack_from("<I", record, 3)[0] + 1

    def append(self, records, sequence: int) -> None:
        """Put whole records, the first of them numbered `sequence`, on flash. Raises OSError, StorageError("full")."""
        at = 0
        while sequence < self.next and at < len(records):  # kept by an attempt that failed later
            at += records[at] | records[at + 1] << 8
            sequence += 1
        # What does not fit the last file as a whole starts a new one: one more file costs less than one more commit.
        room = self._tail_bytes - self._tails[-1][1] if self._tails and sequence == self.next else -1
        fresh = len(records) - at > room
        while at < len(records):
            start = at
            count = 0
            room = self._tail_bytes if fresh else room
            while at < len(records):
                size = records[at] | records[at + 1] << 8
                if count and at + size - start > room:
                    break
                at += size
                count += 1
            self._write(records[start:at], sequence, fresh)
            sequence += count
            self.next = sequence
            fresh = True
        if self._backlog() >= _BACKLOG * self._block_bytes:
            self.tidy()

    def records(self, sequence: int):
        """Yield the records from `sequence` on, oldest first; ends at one that is malformed."""
        for record in self._scan(sequence):
            if unpack_from("<I", record, 3)[0] >= sequence:
                yield record

    def _scan(self, sequence):
        # Records from the beginning of the last file that starts at or before `sequence`.
        last = len(self._blocks) - 1
        for i, first in enumerate(self._blocks):
            if self._blocks[i + 1] > sequence if i < last else not self._tails or self._tails[0][0] > sequence:
                with self._fs.open(self._block(first), "rb") as f:
                    f.read(FILE_HEAD)
                    yield from _read(f)
        last = len(self._tails) - 1
        for i, tail in enumerate(self._tails):
            if i == last or self._tails[i + 1][0] > sequence:
                with self._fs.open(self._tail(tail[0]), "rb") as f:
                    yield from _read(f)

    def head(self) -> bytes:
        """The FILE_HEAD that makes a journal file of all records held."""
        if self._blocks:
            with self._fs.open(self._block(self._blocks[0]), "rb") as f:
                return f.read(FILE_HEAD)
        return file_head(self._device, 0, 0, borrow("journal_open").first_tag(self._device))

    def tag_before(self, sequence: int) -> bytes:
        """Tag of the record before `sequence`, empty when that is not held."""
        if sequence == self.first:
            return self.head()[-TAG:]
        tag = b""
        scan = self._scan(sequence - 1)
        for record in scan:
            if unpack_from("<I", record, 3)[0] >= sequence:
                break
            tag = record[-TAG:]
        scan.close()
        return tag

    def drop(self, sequence: int) -> None:
        """Remove the records from `sequence` on."""
        if sequence >= self.next:
            return
        for folder, firsts in ((self._folder + "/t/", [t[0] for t in self._tails]), (self._folder + "/", self._blocks)):
            for first in reversed(firsts):
                path = folder + "%08x" % first
                kept = b""
                if first < sequence:
                    with self._fs.open(path, "rb") as f:
                        kept = f.read(FILE_HEAD) if firsts is self._blocks else b""
                        for record in _read(f):
                            if unpack_from("<I", record, 3)[0] < sequence:
                                kept += record
                    with self._fs.open(path, "wb") as f:  # littlefs keeps the old content until this is closed
                        f.write(kept)
                    break
                self._fs.remove(path)
        self.open(self._device)

    def tidy(self) -> bool:
        """Merge one block of tail files if there is one; whether there was. For idle moments: takes some 100 ms."""
        most = self._block_bytes - FILE_HEAD
        if self._backlog() <= most:
            return False
        first = self._tails[0][0]
        try:
            merged = self._merge(first, most)
        except OSError as error:
            if error.args[0] != 28:  # ENOSPC
                raise
            if first in [int(name, 16) for name, _ in _names(self._fs, self._folder)]:
                self._fs.remove(self._block(first))
            self._make_room()
            return True
        self._blocks.append(first)
        for _ in range(merged):
            self._fs.remove(self._tail(self._tails[0][0]))
            self._tails.pop(0)
        while len(self._blocks) > 1 and self.next - self._blocks[1] >= self._keep:
            self._forget()
        return True

    def _merge(self, first, most):
        # Write the block file that starts at `first`; how many tail files it holds.
        head = file_head(self._device, self._generation, self._start, self.tag_before(first))
        merged = total = 0
        follow = first
        state = self._generation, self._start
        try:
            with self._fs.open(self._block(first), "wb") as block:
                block.write(head)
                for number, size in self._tails[:-1]:
                    if total + size > most or number != follow:
                        break
                    with self._fs.open(self._tail(number), "rb") as f:
                        tail = f.read(size)
                    follow = self._follow(_split(tail))
                    block.write(tail)
                    total += size
                    merged += 1
        except OSError:
            self._generation, self._start = state
            raise
        return merged

    def _backlog(self):
        total = 0
        for _, size in self._tails:
            total += size
        return total - (self._tails[-1][1] if self._tails else 0)

    def _write(self, chunk, sequence, fresh):
        first, size = (sequence, 0) if fresh else self._tails[-1]
        while True:
            try:
                with self._fs.open(self._tail(first), "wb" if fresh else "ab") as f:
                    f.write(chunk)
                break
            except OSError as error:
                if error.args[0] != 28:  # ENOSPC
                    raise
                self._make_room()
        if fresh:
            self._tails.append((first, len(chunk)))
        else:
            self._tails[-1] = (first, size + len(chunk))

    def _make_room(self):
        if len(self._blocks) < 2:
            raise StorageError("full", "no room for the journal")
        self._forget()

    def _forget(self):
        self._fs.remove(self._block(self._blocks[0]))
        self._blocks.pop(0)

    def _follow(self, records):
        # Note the generation; the sequence after the last of these records.
        end = 0
        for record in records:
            end = unpack_from("<I", record, 3)[0] + 1
            if record[2] == GENERATION:
                self._generation = unpack_from("<H", record, HEAD)[0]
                self._start = end - 1
        return end

    def _block(self, first):
        return "%s/%08x" % (self._folder, first)

    def _tail(self, first):
        return "%s/t/%08x" % (self._folder, first)


def _names(fs, folder):
    # Sorted (name, size) of the journal's files in a folder, which is made when it is not there.
    try:
        return sorted([(e[0], e[3]) for e in fs.ilistdir(folder) if e[1] == 0x8000 and _is_number(e[0])])
    except OSError as error:
        if error.args[0] != 2:  # ENOENT
            raise
    fs.mkdir(folder)
    return []


def _is_number(name):
    # Whether it is a name this store gives; people may leave other files in the folder.
    for c in name:
        if c not in "0123456789abcdef":
            return False
    return len(name) == 8


def _read(f):
    # The records of an open file.
    while True:
        prefix = f.read(2)
        size = unpack_from("<H", prefix, 0)[0] if len(prefix) == 2 else 0
        if not HEAD + TAG <= size <= MAX:
            return
        record = prefix + f.read(size - 2)
        if len(record) != size:
            return
        yield record


def _split(data):
    at = 0
    while at < len(data):
        size = unpack_from("<H", data, at)[0]
        yield data[at : at + size]
        at += size
