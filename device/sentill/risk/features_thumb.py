"""The kernels of features_plain.py in the instructions of ARM chips (RP2040, RP2350); same names, described there.

Only features.py and pending_labels.py call them, with arrays they own.
"""

import micropython


@micropython.asm_thumb
def own(r0, r1):
    """Within: r0 the scalars, r1 the features, r2 the most they hold, r3 the time."""
    mov(r2, 128)
    lsl(r2, r2, 8)
    sub(r2, 1)
    ldr(r3, [r0, 0])
    add(r0, 8)
    add(r1, 2)
    mov(r4, 2)
    bl(COUNTS)
    mov(r4, 3)
    label(HOURS)
    ldr(r5, [r0, 0])
    cmp(r5, 0)
    blt(NEVER)
    sub(r5, r3, r5)
    mov(r6, 225)
    lsl(r6, r6, 19)  # 32768 hours
    cmp(r5, r6)
    bcs(NEVER)
    mov(r7, 1)
    label(DIVIDE)  # the bits of the quotient behind a 1, until that is the 16th
    lsr(r6, r6, 1)
    lsl(r7, r7, 1)
    cmp(r5, r6)
    bcc(LESS)
    sub(r5, r5, r6)
    add(r7, 1)
    label(LESS)
    cmp(r7, r2)
    bls(DIVIDE)
    and_(r7, r2)
    b(HOUR)
    label(NEVER)
    mov(r7, r2)
    label(HOUR)
    strh(r7, [r1, 0])
    add(r0, 4)
    add(r1, 2)
    sub(r4, 1)
    bne(HOURS)
    mov(r4, 3)
    bl(COUNTS)
    b(END)
    label(COUNTS)  # r4 words to features
    ldr(r5, [r0, 0])
    cmp(r5, r2)
    bls(FITS)
    mov(r5, r2)
    label(FITS)
    strh(r5, [r1, 0])
    add(r0, 4)
    add(r1, 2)
    sub(r4, 1)
    bne(COUNTS)
    bx(lr)
    label(END)


@micropython.asm_thumb
def find(r0, r1, r2, r3) -> int:
    """Within: r4 behind the word looked at, r5 its slot."""
    lsl(r4, r2, 2)
    add(r4, r4, r0)
    str(r3, [r4, 0])  # so that the search ends
    mov(r4, r0)
    label(NEXT)
    ldr(r5, [r4, 0])
    add(r4, 4)
    cmp(r5, r3)
    bne(NEXT)
    sub(r5, r4, r0)
    lsr(r5, r5, 2)
    sub(r5, 1)
    cmp(r5, r2)
    beq(NONE)
    add(r6, r1, r5)
    ldrb(r6, [r6, 0])
    mov(r7, 4)
    tst(r6, r7)
    beq(NEXT)
    mov(r0, r5)
    b(END)
    label(NONE)
    mov(r0, 0)
    mvn(r0, r0)
    label(END)


@micropython.asm_thumb
def keep(r0, r1, r2):
    lsl(r1, r1, 2)
    lsl(r2, r2, 2)
    add(r1, r1, r0)
    add(r2, r2, r0)
    ldr(r3, [r2, 0])
    str(r3, [r1, 0])
