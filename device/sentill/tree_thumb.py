"""The score kernel in the instructions of ARM chips (RP2040, RP2350): in half the time of tree_viper's.

The conditions of tree_viper.py hold. ARMv6-M has 16-bit instructions on registers 0 to 7 and keeps two more for us.
"""

import micropython


@micropython.asm_thumb
def score(r0, r1) -> int:
    """What tree_viper.score(nd, x) says."""
    ldrb(r4, [r0, 5])
    mov(r3, 2)
    sub(r4, r3, r4)  # r4: shift of a skip, 2 in the wide layout, 1 in the short one
    ldrh(r5, [r0, 0])
    mov(r12, r5)  # r12: trees left
    mov(r3, 128)
    lsl(r3, r3, 8)  # r3: the bias 0x8000
    mov(r2, r0)
    add(r2, 8)  # r2: a tree, then a node
    ldrh(r6, [r0, 2])
    ldrb(r7, [r0, 4])
    mov(r0, 0)  # r0: the result
    cmp(r7, 0)
    bne(KIND)
    lsl(r6, r4, 3)
    sub(r6, 1)
    lsl(r5, r6)
    sub(r0, r0, r5)  # in a sum every leaf has a bias, 1 << 15 or 1 << 7
    mov(r6, 0)
    label(KIND)
    mov(r14, r6)  # r14: classes of a vote, 0 for a sum
    label(TREE)
    ldrh(r5, [r2, 0])
    add(r5, r5, r2)
    push({r5})
    add(r2, 4)
    b(NODE)
    label(INNER)
    ldrb(r6, [r2, 0])
    lsl(r6, r6, 1)
    add(r6, r6, r1)
    ldrh(r6, [r6, 0])
    eor(r6, r3)
    ldrh(r7, [r2, 2])
    sub(r6, r6, r7)
    asr(r6, r6, 16)
    and_(r6, r5)
    lsl(r6, r4)
    add(r2, r2, r6)
    add(r2, 4)
    label(NODE)
    ldrb(r5, [r2, 1])
    cmp(r5, 0)
    bne(INNER)
    lsl(r6, r4, 1)
    add(r2, r2, r6)
    sub(r2, 2)
    ldrh(r5, [r2, 0])  # word `shift - 1` of the leaf
    mov(r6, r14)
    cmp(r6, 0)
    beq(SUM)
    sub(r5, r5, r6)
    add(r5, 1)
    asr(r5, r5, 16)
    add(r5, 1)
    label(SUM)
    add(r0, r0, r5)
    pop({r2})
    mov(r7, r12)
    sub(r7, 1)
    mov(r12, r7)
    bne(TREE)
