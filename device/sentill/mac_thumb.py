"""HMAC-SHA256 (RFC 2104) in the instructions of ARM chips (RP2040, RP2350), without an object from the heap.

The firmware's own sha256 takes some 200 bytes of heap for each hash, and a judgement with its record needs seven.
All MACs share a work space, in bytes: 0 what sha_thumb.block works on, 416 its state, 448 how many bytes were hashed,
452 the digest. A MAC has the states behind the inner and the outer key, the address of the work space and of `block`.
"""

from array import array
from hashlib import sha256

import micropython
from uctypes import addressof

from sentill.compat import const
from sentill.sha_thumb import block

_SPACE = const(484)
_DIGEST = const(452)
_shared: list = []  # the work space, once there is a MAC


class MAC:
    """What mac_plain.MAC is; `chain` takes nothing from the heap. Not for use in interrupts."""

    def __init__(self, key=b""):
        if not _shared:
            _shared.append(bytearray(_SPACE))
        self._digest = memoryview(_shared[0])[_DIGEST:]
        self._states = array("I", bytes(72))
        self._states[16] = addressof(_shared[0])
        self._states[17] = block()
        self.rekey(key)

    def rekey(self, key) -> None:
        """Use `key` (any length) from now on; the former one is overwritten."""
        if len(key) > 64:
            key = sha256(key).digest()
        work(self._states, key, len(key), 1)

    def wipe(self) -> None:
        """Overwrite the key; tags made from now on are worthless."""
        self._states[:16] = array("I", bytes(64))
        _shared[0][:] = bytes(_SPACE)

    def tag(self, first, second=b"", third=b"") -> bytes:
        """The 32-byte HMAC-SHA256 of the concatenated arguments."""
        if second or third:
            first = bytearray(first)
            first.extend(second)
            first.extend(third)
        work(self._states, first, len(first), 0)
        return bytes(self._digest)

    def tag_of(self, buf, at: int, n: int):
        """As mac_plain.MAC.tag_of; what it returns is good until the next tag."""
        work(self._states, addressof(buf) + at, n, 0)
        return self._digest

    def chain(self, key, tag, buf, at: int) -> None:
        """As mac_plain.MAC.chain."""
        work(self._states, key, tag, addressof(buf) + at)


@micropython.asm_thumb
def work(r0, r1, r2, r3):
    """With r3 0: the digest of a MAC (its states at r0) of r2 bytes at r1, into the work space.
    With r3 1: a MAC under the r2 bytes at r1, 64 at most.
    Else: tag the record at r3, behind the tag at r2, under the key at r1, all of which move on; see MAC.chain.

    Within, r0 is the work space, r8 the constants, r9 the states, r10 the state in the work space, r11 block. Any other
    register is free at a label with a comment, but for what it says.
    """
    mov(r4, r8)
    mov(r5, r9)
    mov(r6, r10)
    mov(r7, r11)
    push({r4, r5, r6, r7})
    mov(r9, r0)
    add(r0, 64)
    ldr(r4, [r0, 4])
    mov(r11, r4)
    ldr(r0, [r0, 0])
    mov(r4, 208)
    lsl(r4, r4, 1)
    add(r4, r4, r0)
    mov(r10, r4)
    align(4)
    bl(BEHIND)
    # The state before the first block, as block has it; what is hashed before a key; what follows a message.
    data(4, 0xA54FF53A, 0x5BE0CD19, 0x3C6EF372, 0x1F83D9AB, 0xBB67AE85, 0x9B05688C, 0x6A09E667, 0x510E527F)
    data(4, 0x7478656E, 0x80)
    label(BEHIND)
    mov(r4, r14)
    sub(r4, 1)  # the bit that says Thumb
    mov(r8, r4)
    cmp(r3, 1)
    beq(KEYS)
    bhi(CHAIN)
    mov(r5, r9)
    bl(KEYED)
    bl(PUT)
    bl(SIGN)
    b(LEAVE)
    label(CHAIN)
    ldrb(r4, [r3, 1])
    lsl(r4, r4, 8)
    ldrb(r5, [r3, 0])
    add(r4, r4, r5)
    sub(r4, 16)
    push({r1, r2, r3, r4})
    mov(r5, r9)
    bl(KEYED)
    mov(r1, r2)
    mov(r2, 16)
    bl(PUT)
    pop({r4, r5, r6, r7})
    push({r4, r5, r6, r7})
    mov(r1, r6)
    mov(r2, r7)
    bl(PUT)
    bl(SIGN)
    pop({r1, r3, r6, r7})
    push({r1})
    mov(r4, 16)
    bl(TAKE)
    add(r3, r6, r7)
    mov(r4, 16)
    bl(TAKE)
    bl(ANEW)
    mov(r1, r8)
    add(r1, 32)  # "next"
    mov(r2, 4)
    bl(PUT)
    pop({r1})
    push({r1})
    mov(r2, 32)
    bl(PUT)
    bl(FINISH)
    pop({r1})
    mov(r3, r1)
    mov(r4, 32)
    bl(TAKE)
    mov(r2, 32)
    label(KEYS)
    mov(r3, 0x36)
    mov(r4, r9)
    bl(PAD)
    mov(r3, 0x5C)
    mov(r4, r9)
    add(r4, 32)
    bl(PAD)
    mov(r4, 0)
    mov(r5, 255)
    label(CLEAR)  # what came of the key
    add(r6, r0, r5)
    strb(r4, [r6, 0])
    sub(r5, 1)
    bpl(CLEAR)
    b(LEAVE)
    label(TAKE)  # r4 bytes of the digest to r3; leaves r1, r6, r7
    mov(r5, r10)
    add(r5, 36)
    label(TAKEN)
    ldrb(r2, [r5, 0])
    strb(r2, [r3, 0])
    add(r5, 1)
    add(r3, 1)
    sub(r4, 1)
    bne(TAKEN)
    bx(lr)
    label(PAD)  # the state behind a block of the r2 bytes at r1, each changed by r3, to r4; leaves r1, r2
    push({r1, r2, r4, lr})
    bl(ANEW)
    mov(r6, 64)
    sub(r6, r6, r2)
    bl(FILL)
    mov(r5, r10)
    pop({r1, r2, r4})
    bl(EIGHT)
    pop({pc})
    label(SIGN)  # the digest of a MAC, of what was put behind its inner key
    push({lr})
    bl(FINISH)
    mov(r5, r9)
    add(r5, 32)
    bl(KEYED)
    mov(r1, r10)
    add(r1, 36)
    mov(r2, 32)
    bl(PUT)
    bl(FINISH)
    pop({pc})
    label(ANEW)  # hash from the first block on; leaves r1 to r3, as does the next
    mov(r5, r8)
    mov(r6, 0)
    b(FROM)
    label(KEYED)  # hash from the state at r5 on, behind one block
    mov(r6, 64)
    label(FROM)
    mov(r4, r10)
    str(r6, [r4, 32])
    label(EIGHT)  # words from r5 to r4
    mov(r7, 8)
    label(WORD)
    ldr(r6, [r5, 0])
    str(r6, [r4, 0])
    add(r5, 4)
    add(r4, 4)
    sub(r7, 1)
    bne(WORD)
    bx(lr)
    label(PUT)  # hash r2 bytes at r1
    mov(r3, 0)
    mov(r6, 0)
    label(FILL)  # hash r2 bytes at r1, then r6 zeros that do not count, each changed by r3
    push({lr})
    mov(r12, r6)
    mov(r4, r10)
    ldr(r5, [r4, 32])
    add(r6, r5, r2)
    str(r6, [r4, 32])
    mov(r6, 63)
    and_(r5, r6)
    label(NEXT)
    sub(r2, 1)
    bmi(FEW)
    ldrb(r4, [r1, 0])
    add(r1, 1)
    label(STORE)
    eor(r4, r3)
    mov(r6, 3)  # words have their low bytes first
    eor(r6, r5)
    add(r6, r6, r0)
    strb(r4, [r6, 0])
    add(r5, 1)
    cmp(r5, 64)
    bne(NEXT)
    bl(BLOCK)
    mov(r5, 0)
    b(NEXT)
    label(FEW)
    mov(r4, r12)
    sub(r4, 1)
    bmi(DONE)
    mov(r12, r4)
    mov(r4, 0)
    b(STORE)
    label(DONE)
    pop({pc})
    label(FINISH)  # what follows a message; the digest
    push({lr})
    mov(r4, r10)
    ldr(r4, [r4, 32])
    push({r4})
    mov(r6, 55)
    sub(r6, r6, r4)
    mov(r3, 63)
    and_(r6, r3)
    mov(r1, r8)
    add(r1, 36)
    mov(r2, 1)
    mov(r3, 0)
    bl(FILL)
    pop({r4})
    lsr(r5, r4, 29)
    str(r5, [r0, 56])
    lsl(r4, r4, 3)
    str(r4, [r0, 60])
    bl(BLOCK)
    mov(r5, r10)
    add(r5, 36)
    mov(r7, 24)
    label(TURN)  # a to d from 24 down, e to h from 28 down
    mov(r3, r10)
    add(r3, r3, r7)
    ldr(r4, [r3, 0])
    lsr(r6, r4, 24)
    strb(r6, [r5, 0])
    lsr(r6, r4, 16)
    strb(r6, [r5, 1])
    lsr(r6, r4, 8)
    strb(r6, [r5, 2])
    strb(r4, [r5, 3])
    add(r5, 4)
    sub(r7, 8)
    bpl(TURN)
    add(r7, 36)
    cmp(r7, 32)
    bne(TURN)
    pop({pc})
    label(BLOCK)
    mov(r7, r11)
    bx(r7)
    label(LEAVE)
    pop({r4, r5, r6, r7})
    mov(r8, r4)
    mov(r9, r5)
    mov(r10, r6)
    mov(r11, r7)
