/* The plain instructions of an ARMv6-M core, run natively until one needs the emulator.
 *
 * `run` executes from flash, SRAM and boot ROM until a budget of cycles is used up or an instruction comes that it does
 * not know: an access to a peripheral, an interrupt let in, a return from an exception, a sleep. That one is left to
 * rp2040py, whose cycle counts are kept. Done here, too, since the firmware lives on them: SIO's divider, spin locks and
 * core number, the interrupt mask, and the timer's count.
 */
#include <stdint.h>

struct machine {
    uint32_t *r;             /* 16 registers; r[15] is the address of the next instruction */
    double time_ns;          /* of the timer, when `run` begins */
    uint32_t n, z, c, v;     /* flags, 0 or 1 */
    uint32_t masked;         /* PRIMASK */
    uint32_t alert;          /* whether an interrupt waits for the mask to fall */
    uint32_t event;          /* set by SEV */
    uint32_t spin_locks;
    uint8_t *flash, *sram, *rom;
    uint32_t flash_size, sram_size, rom_size;
    uint32_t dividend, divisor, quotient, remainder, divided_signed, dirty;
};

enum { SIO = 0xD0000000u, SIO_DIVIDER = SIO + 0x60, SIO_DIVIDER_SIZE = 0x18, SIO_LOCKS = SIO + 0x100 };
enum { TIMER_HIGH = 0x40054024u, TIMER_LOW = 0x40054028u };
enum { NS_PER_CYCLE = 8, TIMER_CYCLES = 4 };

static inline uint16_t load16(const uint8_t *p) { return *(const uint16_t *)p; }
static inline uint32_t load32(const uint8_t *p) { return *(const uint32_t *)p; }

/* Where `size` bytes at `address` can be read, 0 for what is no memory. Flash has four windows of 16 MB. */
static inline uint8_t *readable(const struct machine *m, uint32_t address, uint32_t size) {
    uint32_t offset = address - 0x20000000u;
    if (offset <= m->sram_size - size)
        return m->sram + offset;
    if (address >> 26 == 4) {
        offset = address & 0xFFFFFFu;
        return offset + size <= m->flash_size ? m->flash + offset : 0;
    }
    return address < m->rom_size && address + size <= m->rom_size ? m->rom + address : 0;
}

static inline uint8_t *writable(const struct machine *m, uint32_t address, uint32_t size) {
    uint32_t offset = address - 0x20000000u;
    return offset <= m->sram_size - size ? m->sram + offset : 0;
}

static void divide(struct machine *m) {
    uint32_t a = m->dividend, b = m->divisor;
    if (m->divided_signed) {
        int32_t x = (int32_t)a, y = (int32_t)b;
        if (y == 0) {
            m->quotient = x >= 0 ? ~0u : 1;
            m->remainder = a;
        } else if (a == 0x80000000u && y == -1) {
            m->quotient = a;
            m->remainder = 0;
        } else {
            m->quotient = (uint32_t)(x / y);
            m->remainder = (uint32_t)(x % y);
        }
    } else {
        m->quotient = b ? a / b : ~0u;
        m->remainder = b ? a % b : a;
    }
    m->dirty = 1;
}

/* A read or write of SIO; 0 when it is left to the emulator. */
static int sio_read(struct machine *m, uint32_t address, uint32_t *value) {
    uint32_t offset = address - SIO;
    switch (offset) {
    case 0x00: *value = 0; return 1; /* CPUID */
    case 0x60: case 0x68: *value = m->dividend; return 1;
    case 0x64: case 0x6C: *value = m->divisor; return 1;
    case 0x70: *value = m->quotient; m->dirty = 0; return 1;
    case 0x74: *value = m->remainder; return 1;
    case 0x78: *value = 1 | m->dirty << 1; return 1;
    }
    if (address - SIO_LOCKS < 128 && !(address & 3)) {
        uint32_t lock = 1u << (address - SIO_LOCKS) / 4;
        *value = m->spin_locks & lock ? 0 : lock;
        m->spin_locks |= lock;
        return 1;
    }
    return 0;
}

static int sio_write(struct machine *m, uint32_t address, uint32_t value) {
    switch (address - SIO) {
    case 0x60: m->dividend = value; m->divided_signed = 0; divide(m); return 1;
    case 0x64: m->divisor = value; m->divided_signed = 0; divide(m); return 1;
    case 0x68: m->dividend = value; m->divided_signed = 1; divide(m); return 1;
    case 0x6C: m->divisor = value; m->divided_signed = 1; divide(m); return 1;
    case 0x70: m->quotient = value; m->dirty = 1; return 1;
    case 0x74: m->remainder = value; m->dirty = 1; return 1;
    }
    if (address - SIO_LOCKS < 128 && !(address & 3)) {
        m->spin_locks &= ~(1u << (address - SIO_LOCKS) / 4);
        return 1;
    }
    return 0;
}

/* Whether `address` is the timer's count; then `value` is what it is after `cycles`. */
static int timer_read(const struct machine *m, uint32_t address, int64_t cycles, uint32_t *value) {
    if (address != TIMER_HIGH && address != TIMER_LOW)
        return 0;
    uint64_t us = (uint64_t)((m->time_ns + (double)(cycles * NS_PER_CYCLE)) / 1000.0);
    *value = address == TIMER_LOW ? (uint32_t)us : (uint32_t)(us >> 32);
    return 1;
}

/* The memory around an address of code: where it begins, and where in it the last half-word does. */
static const uint8_t *region(const struct machine *m, uint32_t pc, uint32_t *low, uint32_t *size) {
    if (!readable(m, pc, 2))
        return 0;
    uint32_t window = pc & 0xFF000000u;
    const uint8_t *memory = window == 0x20000000u ? m->sram : window ? m->flash : m->rom;
    *low = window;
    *size = (window == 0x20000000u ? m->sram_size : window ? m->flash_size : m->rom_size) - 2;
    return memory;
}

#define FLAGS_NZ(value) do { uint32_t nz_ = (value); N = nz_ >> 31; Z = nz_ == 0; } while (0)
/* target = a + b + carry with all flags; a subtraction adds the complement with a carry of 1. */
#define ADD(target, a, b, carry) do { \
        uint32_t a_ = (a), b_ = (b); uint64_t sum_ = (uint64_t)a_ + b_ + (carry); uint32_t low_ = (uint32_t)sum_; \
        N = low_ >> 31; Z = low_ == 0; C = sum_ >> 32 & 1; V = (~(a_ ^ b_) & (a_ ^ low_)) >> 31; target = low_; \
    } while (0)
#define LEAVE goto leave
#define REGISTER(i) ((i) == 15 ? pc + 4 : r[i])

/* Run at most about `budget` cycles; returns those used. */
int64_t run(struct machine *m, int64_t budget) {
    uint32_t *r = m->r, N = m->n, Z = m->z, C = m->c, V = m->v, pc = r[15] & ~1u;
    int64_t cycles = 0;
    const uint8_t *memory = 0; /* the memory that is executed from: `size` is where its last half-word begins */
    uint32_t low = 1, size = 0;
    while (cycles < budget) {
        if (pc - low > size) {
            memory = region(m, pc, &low, &size);
            if (!memory)
                break;
        }
        uint32_t op = load16(memory + (pc - low)), next = pc + 2, ignored = 0;
        uint32_t lo = op & 7, mid = op >> 3 & 7, high = op >> 8 & 7, imm5 = op >> 6 & 31, imm8 = op & 255;
        uint8_t *p;
        (void)ignored;
        switch (op >> 11) {
        case 0: { /* LSLS, MOVS */
            uint32_t x = r[mid];
            if (imm5)
                C = x >> (32 - imm5) & 1;
            r[lo] = x << imm5;
            FLAGS_NZ(r[lo]);
            cycles++;
            break;
        }
        case 1: { /* LSRS */
            uint32_t x = r[mid];
            C = x >> (imm5 ? imm5 - 1 : 31) & 1;
            r[lo] = imm5 ? x >> imm5 : 0;
            FLAGS_NZ(r[lo]);
            cycles++;
            break;
        }
        case 2: { /* ASRS */
            uint32_t x = r[mid];
            C = x >> (imm5 ? imm5 - 1 : 31) & 1;
            r[lo] = (uint32_t)((int32_t)x >> (imm5 ? imm5 : 31));
            FLAGS_NZ(r[lo]);
            cycles++;
            break;
        }
        case 3: { /* ADDS, SUBS: register or 3 bits */
            uint32_t a = r[mid], b = op & 0x400 ? op >> 6 & 7 : r[op >> 6 & 7];
            if (op & 0x200)
                ADD(r[lo], a, ~b, 1);
            else
                ADD(r[lo], a, b, 0);
            cycles++;
            break;
        }
        case 4: r[high] = imm8; FLAGS_NZ(imm8); cycles++; break; /* MOVS */
        case 5: ADD(ignored, r[high], ~imm8, 1); cycles++; break; /* CMP */
        case 6: ADD(r[high], r[high], imm8, 0); cycles++; break; /* ADDS */
        case 7: ADD(r[high], r[high], ~imm8, 1); cycles++; break; /* SUBS */
        case 8:
            if (!(op & 0x400)) { /* two low registers */
                uint32_t b = r[mid], a = r[lo], count = b & 255;
                switch (op >> 6 & 15) {
                case 0: r[lo] = a & b; FLAGS_NZ(r[lo]); break; /* ANDS */
                case 1: r[lo] = a ^ b; FLAGS_NZ(r[lo]); break; /* EORS */
                case 2: /* LSLS */
                    if (count)
                        C = count > 32 ? 0 : a >> ((32 - count) & 31) & 1;
                    r[lo] = count >= 32 ? 0 : a << count;
                    FLAGS_NZ(r[lo]);
                    break;
                case 3: /* LSRS */
                    if (count)
                        C = count > 32 ? 0 : a >> (count - 1) & 1;
                    r[lo] = count >= 32 ? 0 : a >> count;
                    FLAGS_NZ(r[lo]);
                    break;
                case 4: /* ASRS */
                    if (count > 32)
                        count = 32;
                    if (count) {
                        C = a >> (count - 1) & 1;
                        r[lo] = (uint32_t)((int32_t)a >> (count == 32 ? 31 : count));
                    }
                    FLAGS_NZ(r[lo]);
                    break;
                case 5: ADD(r[lo], a, b, C); break; /* ADCS */
                case 6: ADD(r[lo], a, ~b, C); break; /* SBCS */
                case 7: /* RORS */
                    if (count) {
                        uint32_t k = count & 31;
                        r[lo] = k ? a >> k | a << (32 - k) : a;
                        C = r[lo] >> 31;
                    }
                    FLAGS_NZ(r[lo]);
                    break;
                case 8: FLAGS_NZ(a & b); break; /* TST */
                case 9: ADD(r[lo], 0, ~b, 1); break; /* RSBS */
                case 10: ADD(ignored, a, ~b, 1); break; /* CMP */
                case 11: ADD(ignored, a, b, 0); break; /* CMN */
                case 12: r[lo] = a | b; FLAGS_NZ(r[lo]); break; /* ORRS */
                case 13: r[lo] = a * b; FLAGS_NZ(r[lo]); break; /* MULS */
                case 14: r[lo] = a & ~b; FLAGS_NZ(r[lo]); break; /* BICS */
                case 15: r[lo] = ~b; FLAGS_NZ(r[lo]); break; /* MVNS */
                }
                cycles++;
            } else { /* high registers */
                uint32_t source = op >> 3 & 15, target = (op >> 4 & 8) | lo, value;
                switch (op >> 8 & 3) {
                case 1: ADD(ignored, REGISTER(target), ~REGISTER(source), 1); cycles++; break; /* CMP */
                case 3: /* BX, BLX; an address in 0xF0000000 ends an exception */
                    value = r[source];
                    if (source == 15 || value >> 28 == 15)
                        LEAVE;
                    if (op & 0x80)
                        r[14] = (pc + 2) | 1;
                    next = value & ~1u;
                    cycles += 2;
                    break;
                default: /* ADD, MOV */
                    value = REGISTER(source) + (op >> 8 & 2 ? 0 : REGISTER(target));
                    if (target == 15) {
                        next = value & ~1u;
                        cycles += 2;
                    } else {
                        r[target] = target == 13 ? value & ~3u : value;
                        cycles++;
                    }
                }
            }
            break;
        case 9: /* LDR from the code */
            if (!(p = readable(m, ((pc + 4) & ~3u) + (imm8 << 2), 4)))
                LEAVE;
            r[high] = load32(p);
            cycles += 2;
            break;
        case 10: case 11: { /* loads and stores with two registers */
            uint32_t address = r[op >> 6 & 7] + r[mid], kind = op >> 9 & 7;
            if (address >> 28 == 13) {
                if (kind == 3 && address == SIO) /* the core's number, as a signed byte */
                    r[lo] = 0;
                else if (!(kind == 0 && sio_write(m, address, r[lo])) && !(kind == 4 && sio_read(m, address, &r[lo])))
                    LEAVE;
                cycles++;
                break;
            }
            switch (kind) {
            case 0: if (address & 3 || !(p = writable(m, address, 4))) LEAVE; *(uint32_t *)p = r[lo]; break;
            case 1: if (address & 1 || !(p = writable(m, address, 2))) LEAVE; *(uint16_t *)p = (uint16_t)r[lo]; break;
            case 2: if (!(p = writable(m, address, 1))) LEAVE; *p = (uint8_t)r[lo]; break;
            case 3: if (!(p = readable(m, address, 1))) LEAVE; r[lo] = (uint32_t)(int32_t)(int8_t)*p; break;
            case 4: if (address & 3 || !(p = readable(m, address, 4))) LEAVE; r[lo] = load32(p); break;
            case 5: if (address & 1 || !(p = readable(m, address, 2))) LEAVE; r[lo] = load16(p); break;
            case 6: if (!(p = readable(m, address, 1))) LEAVE; r[lo] = *p; break;
            case 7:
                if (address & 1 || !(p = readable(m, address, 2)))
                    LEAVE;
                r[lo] = (uint32_t)(int32_t)(int16_t)load16(p);
                break;
            }
            cycles += 2;
            break;
        }
        case 12: { /* STR */
            uint32_t address = r[mid] + (imm5 << 2);
            if (address >> 28 == 13 && sio_write(m, address, r[lo])) {
                cycles++;
                break;
            }
            if (address & 3 || !(p = writable(m, address, 4)))
                LEAVE;
            *(uint32_t *)p = r[lo];
            cycles += 2;
            break;
        }
        case 13: { /* LDR */
            uint32_t address = r[mid] + (imm5 << 2);
            if (address >> 28 == 13 && sio_read(m, address, &r[lo])) {
                cycles++;
                break;
            }
            if (timer_read(m, address, cycles, &r[lo])) {
                cycles += TIMER_CYCLES;
                break;
            }
            if (address & 3 || !(p = readable(m, address, 4)))
                LEAVE;
            r[lo] = load32(p);
            cycles += 2;
            break;
        }
        case 14: if (!(p = writable(m, r[mid] + imm5, 1))) LEAVE; *p = (uint8_t)r[lo]; cycles += 2; break; /* STRB */
        case 15: if (!(p = readable(m, r[mid] + imm5, 1))) LEAVE; r[lo] = *p; cycles += 2; break; /* LDRB */
        case 16: { /* STRH */
            uint32_t address = r[mid] + (imm5 << 1);
            if (address & 1 || !(p = writable(m, address, 2)))
                LEAVE;
            *(uint16_t *)p = (uint16_t)r[lo];
            cycles += 2;
            break;
        }
        case 17: { /* LDRH */
            uint32_t address = r[mid] + (imm5 << 1);
            if (address & 1 || !(p = readable(m, address, 2)))
                LEAVE;
            r[lo] = load16(p);
            cycles += 2;
            break;
        }
        case 18: { /* STR on the stack */
            uint32_t address = r[13] + (imm8 << 2);
            if (address & 3 || !(p = writable(m, address, 4)))
                LEAVE;
            *(uint32_t *)p = r[high];
            cycles += 2;
            break;
        }
        case 19: { /* LDR from the stack */
            uint32_t address = r[13] + (imm8 << 2);
            if (address & 3 || !(p = readable(m, address, 4)))
                LEAVE;
            r[high] = load32(p);
            cycles += 2;
            break;
        }
        case 20: r[high] = ((pc + 4) & ~3u) + (imm8 << 2); cycles++; break; /* ADR */
        case 21: r[high] = r[13] + (imm8 << 2); cycles++; break; /* ADD to the stack pointer */
        case 22:
            if ((op & 0xFF00) == 0xB000) { /* ADD, SUB of the stack pointer itself */
                uint32_t by = (op & 127) << 2;
                r[13] = (op & 128 ? r[13] - by : r[13] + by) & ~3u;
                cycles++;
            } else if ((op & 0xFE00) == 0xB400) { /* PUSH */
                uint32_t count = (uint32_t)__builtin_popcount(op & 0x1FF), address = r[13] - 4 * count;
                if (!count || address & 3 || !(p = writable(m, address, 4 * count)))
                    LEAVE;
                for (int i = 0; i < 8; i++)
                    if (op >> i & 1) {
                        *(uint32_t *)p = r[i];
                        p += 4;
                    }
                if (op & 0x100)
                    *(uint32_t *)p = r[14];
                r[13] = address;
                cycles += op & 0x100 ? count : 1 + count; /* rp2040py does not count r14 */
            } else if ((op & 0xFF00) == 0xB200) { /* SXTH, SXTB, UXTH, UXTB */
                uint32_t x = r[mid];
                switch (op >> 6 & 3) {
                case 0: r[lo] = (uint32_t)(int32_t)(int16_t)x; break;
                case 1: r[lo] = (uint32_t)(int32_t)(int8_t)x; break;
                case 2: r[lo] = x & 0xFFFF; break;
                case 3: r[lo] = x & 0xFF; break;
                }
                cycles++;
            } else if (op == 0xB672) { /* CPSID */
                m->masked = 1;
                cycles++;
            } else if (op == 0xB662 && !m->alert) { /* CPSIE */
                m->masked = 0;
                cycles++;
            } else
                LEAVE;
            break;
        case 23:
            if ((op & 0xFE00) == 0xBC00) { /* POP */
                uint32_t count = (uint32_t)__builtin_popcount(op & 0x1FF), address = r[13];
                if (!count || address & 3 || !(p = readable(m, address, 4 * count)))
                    LEAVE;
                if (op & 0x100) {
                    uint32_t value = load32(p + 4 * (count - 1));
                    if (value >> 28 == 15)
                        LEAVE;
                    next = value & ~1u;
                    cycles += 2;
                }
                for (int i = 0; i < 8; i++)
                    if (op >> i & 1) {
                        r[i] = load32(p);
                        p += 4;
                    }
                r[13] = (address + 4 * count) & ~3u;
                cycles += op & 0x100 ? count : 1 + count;
            } else if ((op & 0xFF00) == 0xBA00) { /* REV, REV16, REVSH */
                uint32_t x = r[mid];
                switch (op >> 6 & 3) {
                case 0: r[lo] = __builtin_bswap32(x); break;
                case 1: r[lo] = (x >> 8 & 0xFF00FFu) | (x & 0xFF00FFu) << 8; break;
                case 3: r[lo] = (uint32_t)(int32_t)(int16_t)__builtin_bswap16((uint16_t)x); break;
                default: LEAVE;
                }
                cycles++;
            } else if (op == 0xBF00) /* NOP */
                cycles++;
            else if (op == 0xBF40) { /* SEV */
                m->event = 1;
                cycles++;
            }
            else
                LEAVE;
            break;
        case 24: { /* STMIA; the firmware saves the divider with it */
            uint32_t address = r[high], count = (uint32_t)__builtin_popcount(imm8);
            if (count && count <= 6 && address - SIO_DIVIDER <= SIO_DIVIDER_SIZE - 4 * count) {
                for (int i = 0; i < 8; i++)
                    if (op >> i & 1) {
                        sio_write(m, address, r[i]);
                        address += 4;
                    }
                r[high] = address;
            } else {
                if (!count || address & 3 || !(p = writable(m, address, 4 * count)))
                    LEAVE;
                for (int i = 0; i < 8; i++)
                    if (op >> i & 1) {
                        *(uint32_t *)p = r[i];
                        p += 4;
                    }
                r[high] = address + 4 * count;
            }
            cycles += 1 + count;
            break;
        }
        case 25: { /* LDMIA */
            uint32_t address = r[high], count = (uint32_t)__builtin_popcount(imm8);
            int into_itself = op >> high & 1;
            if (count && count <= 6 && address - SIO_DIVIDER <= SIO_DIVIDER_SIZE - 4 * count) {
                for (int i = 0; i < 8; i++)
                    if (op >> i & 1) {
                        sio_read(m, address, &r[i]);
                        address += 4;
                    }
                if (!into_itself)
                    r[high] = address;
            } else {
                if (!count || address & 3 || !(p = readable(m, address, 4 * count)))
                    LEAVE;
                for (int i = 0; i < 8; i++)
                    if (op >> i & 1) {
                        r[i] = load32(p);
                        p += 4;
                    }
                if (!into_itself)
                    r[high] = address + 4 * count;
            }
            cycles += 1 + count;
            break;
        }
        case 26: case 27: { /* B with a condition; 14 is undefined, 15 SVC */
            uint32_t condition = op >> 8 & 15, holds;
            if (condition >= 14)
                LEAVE;
            switch (condition >> 1) {
            case 0: holds = Z; break;
            case 1: holds = C; break;
            case 2: holds = N; break;
            case 3: holds = V; break;
            case 4: holds = C && !Z; break;
            case 5: holds = N == V; break;
            default: holds = N == V && !Z;
            }
            if (holds != (condition & 1)) {
                next = pc + 4 + (uint32_t)((int32_t)(int8_t)imm8 * 2);
                cycles += 2;
            } else
                cycles++;
            break;
        }
        case 28: /* B */
            next = pc + 4 + (uint32_t)((int32_t)(op << 21) >> 20);
            cycles += 2;
            break;
        case 30: { /* BL, barriers */
            if (!(p = readable(m, pc + 2, 2)))
                LEAVE;
            uint32_t op2 = load16(p);
            if ((op2 & 0xD000) == 0xD000) {
                uint32_t s = op >> 10 & 1, i1 = 1 ^ s ^ (op2 >> 13 & 1), i2 = 1 ^ s ^ (op2 >> 11 & 1);
                uint32_t by = (s ? 0xFF000000u : 0) | i1 << 23 | i2 << 22 | (op & 0x3FF) << 12 | (op2 & 0x7FF) << 1;
                r[14] = (pc + 4) | 1;
                next = pc + 4 + by;
            } else if (op == 0xF3BF && (op2 & 0xFFF0) >= 0x8F40 && (op2 & 0xFFF0) <= 0x8F60)
                next = pc + 4;
            else if (op == 0xF3EF && (op2 & 0xF0FF) == 0x8010 && (op2 >> 8 & 15) < 13) { /* MRS of the mask */
                r[op2 >> 8 & 15] = m->masked;
                next = pc + 4;
            } else if ((op & 0xFFF0) == 0xF380 && op2 == 0x8810 && (op & 15) < 13) { /* MSR of the mask */
                uint32_t mask = r[op & 15] & 1;
                if (!mask && m->alert)
                    LEAVE;
                m->masked = mask;
                next = pc + 4;
            } else
                LEAVE;
            cycles += 3;
            break;
        }
        default:
            LEAVE;
        }
        pc = next;
    }
leave:
    r[15] = pc;
    m->n = N;
    m->z = Z;
    m->c = C;
    m->v = V;
    return cycles;
}
