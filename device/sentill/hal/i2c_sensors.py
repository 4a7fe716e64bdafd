"""Drivers of I2C sensors, as health sources `KIND:ADDRESS:WHAT`: integers in, no floats, nothing allocated per reading.

| kind | what | unit |
|---|---|---|
| ina219 | bus, shunt | mV, 10 uV (over 0.1 ohm: 0.1 mA) |
| ina226 | bus, shunt | mV, 2.5 uV (over 0.1 ohm: 25 uA) |
| max17048 | cell, charge | mV, 0.1 % |
| lis3dh, adxl345 | shock | mg: the largest step of an axis since the reading before |
| lis3dh, adxl345 | x, y, z | mg: an axis, 400 times a second, for waveforms; not beside shock on the same chip |

A chip that is missing or is another one raises OSError, which the HAL turns into "no reading"; it is set up anew when
it comes back. The published packages for these chips compute floats and allocate per reading, so these stay small.
"""

_ENODEV = 19


def open_chip(kind: str, bus, address: int, what: str):
    """A function without arguments that reads `what` of the chip at `address`. Raises ValueError for unknown ones."""
    if kind in _GAUGES and what in _GAUGES[kind]:
        return Gauge(bus, address, *_GAUGES[kind][what]).read
    if kind in _SHOCKS and what == "shock":
        return Shock(bus, address, *_SHOCKS[kind]).read
    if kind in _AXES and what in ("x", "y", "z"):
        return Axis(bus, address, "xyz".index(what), *_AXES[kind]).read
    raise ValueError(kind + ":" + what)


class Gauge:
    """One 16-bit register, high byte first: `(value >> shift) * num // den`."""

    def __init__(self, bus, address: int, register: int, signed: bool, shift: int, num: int, den: int):
        self._bus = bus
        self._address = address
        self._register = register
        self._signed = signed
        self._shift = shift
        self._num = num
        self._den = den
        self._buf = bytearray(2)

    def read(self) -> int:
        """The quantity in its unit; OSError when the chip does not answer."""
        buf = self._buf
        self._bus.readfrom_mem_into(self._address, self._register, buf)
        value = buf[0] << 8 | buf[1]
        if self._signed and value > 32767:
            value -= 65536
        return (value >> self._shift) * self._num // self._den


class Shock:
    """An accelerometer whose FIFO keeps what happens between two readings, 32 samples at 25 or 50 Hz."""

    def __init__(self, bus, address: int, who, setup, count, data: int, shift: int, num: int, den: int):
        self._bus = bus
        self._address = address
        self._who = who
        self._setup = setup
        self._count = count
        self._data = data
        self._shift = shift
        self._num = num
        self._den = den
        self._one = bytearray(1)
        self._six = bytearray(6)
        self._ready = False
        self._x = self._y = self._z = 0

    def read(self) -> int:
        """Largest step of an axis in mg since the last reading; OSError when the chip does not answer."""
        try:
            if not self._ready:
                self._start()
            return self._drain()
        except OSError:
            self._ready = False
            raise

    def _start(self):
        _set_up(self._bus, self._address, self._who, self._setup)
        self._take()  # the first sample is where steps are counted from
        self._ready = True

    def _drain(self):
        register, mask = self._count
        self._bus.readfrom_mem_into(self._address, register, self._one)
        largest = 0
        for _ in range(max(self._one[0] & mask, 1)):
            step = self._take()
            largest = step if step > largest else largest
        return largest * self._num // self._den

    def _take(self):
        # One sample of three axes; returns the largest step in counts.
        buf = self._six
        self._bus.readfrom_mem_into(self._address, self._data, buf)
        x = _axis(buf, 0) >> self._shift
        y = _axis(buf, 2) >> self._shift
        z = _axis(buf, 4) >> self._shift
        step = max(abs(x - self._x), abs(y - self._y), abs(z - self._z))
        self._x = x
        self._y = y
        self._z = z
        return step


class Axis:
    """One axis of an accelerometer, as it is now."""

    def __init__(self, bus, address: int, number: int, who, setup, data: int, shift: int, num: int, den: int):
        self._bus = bus
        self._address = address
        self._who = who
        self._setup = setup
        self._data = data + 2 * number
        self._shift = shift
        self._num = num
        self._den = den
        self._two = bytearray(2)
        self._ready = False

    def read(self) -> int:
        """Acceleration in mg; OSError when the chip does not answer."""
        try:
            if not self._ready:
                _set_up(self._bus, self._address, self._who, self._setup)
                self._ready = True
            self._bus.readfrom_mem_into(self._address, self._data, self._two)
        except OSError:
            self._ready = False
            raise
        return (_axis(self._two, 0) >> self._shift) * self._num // self._den


def _set_up(bus, address, who, setup):
    one = bytearray(1)
    bus.readfrom_mem_into(address, who[0], one)
    if one[0] != who[1]:
        raise OSError(_ENODEV)
    for register, value in setup:
        one[0] = value
        bus.writeto_mem(address, register, one)


def _axis(buf, at):
    value = buf[at] | buf[at + 1] << 8
    return value - 65536 if value > 32767 else value


# kind: what: register, signed, shift, num, den
_GAUGES = {
    "ina219": {"bus": (0x02, False, 3, 4, 1), "shunt": (0x01, True, 0, 1, 1)},
    "ina226": {"bus": (0x02, False, 0, 5, 4), "shunt": (0x01, True, 0, 1, 1)},
    "max17048": {"cell": (0x02, False, 0, 5, 64), "charge": (0x04, False, 0, 10, 256)},
}

# kind: (identity register, value), set-up, (FIFO count register, mask), data register, shift, num, den for mg
_SHOCKS = {
    # 50 Hz, all axes; +-4 g in 12 bits of 2 mg; FIFO as a stream. Bit 7 of the data register counts on by itself.
    "lis3dh": (
        (0x0F, 0x33),
        ((0x20, 0x47), (0x23, 0x98), (0x24, 0x40), (0x2E, 0x80)),
        (0x2F, 0x1F),
        0xA8,
        4,
        2,
        1,
    ),
    # 50 Hz, +-16 g in 3.9 mg, FIFO as a stream, measuring on.
    "adxl345": (
        (0x00, 0xE5),
        ((0x2C, 0x09), (0x31, 0x0B), (0x38, 0x80), (0x2D, 0x08)),
        (0x39, 0x3F),
        0x32,
        0,
        39,
        10,
    ),
}

# kind: (identity register, value), set-up, data register of x, shift, num, den for mg
_AXES = {
    # 400 Hz, all axes; +-4 g in 12 bits of 2 mg; no FIFO
    "lis3dh": ((0x0F, 0x33), ((0x20, 0x77), (0x23, 0x98), (0x24, 0x00)), 0xA8, 4, 2, 1),
    # 400 Hz, +-16 g in 3.9 mg, no FIFO, measuring on
    "adxl345": ((0x00, 0xE5), ((0x2C, 0x0C), (0x31, 0x0B), (0x38, 0x00), (0x2D, 0x08)), 0x32, 0, 39, 10),
}
