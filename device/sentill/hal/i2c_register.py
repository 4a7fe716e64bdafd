"""I2C sensors that are one register, as health sources `i2c:ADDRESS:REGISTER:TYPE`."""

# Types: bytes, first byte is the highest, signed.
_REGISTERS = {
    "u8": (1, True, False),
    "s8": (1, True, True),
    "u16be": (2, True, False),
    "s16be": (2, True, True),
    "u16le": (2, False, False),
    "s16le": (2, False, True),
}


def reader(bus, address: int, register: int, kind: str):
    """A function without arguments that reads the register as an integer; OSError when the chip does not answer.

    Raises KeyError for an unknown `kind`.
    """
    size, high_first, signed = _REGISTERS[kind]
    buf = bytearray(size)

    def read():
        bus.readfrom_mem_into(address, register, buf)
        value = buf[0]
        if size == 2:
            value = value << 8 | buf[1] if high_first else value | buf[1] << 8
        if signed and value >> (size * 8 - 1):
            value -= 1 << (size * 8)
        return value

    return read
