"""Drivers of I2C sensors on a simulated bus: units, set-up, FIFO, a chip that goes away and comes back."""

from sentill.hal.i2c_register import reader
from sentill.hal.i2c_sensors import open_chip
from support import no_alloc, raises


class Bus:
    """Registers of one chip; `fifo` holds samples of three axes in counts, handed out at the data register."""

    def __init__(self, address, registers, data=0, count=0):
        self.address = address
        self.registers = registers
        self.data = data
        self.count = count
        self.fifo = []
        self.gone = False
        self.writes = []

    def readfrom_mem_into(self, address, register, buf):
        if self.gone or address != self.address:
            raise OSError(19)
        if register == self.data and self.data:
            sample = self.fifo.pop(0) if len(self.fifo) > 1 else self.fifo[0]
            for k in range(3):
                buf[2 * k] = sample[k] & 255
                buf[2 * k + 1] = sample[k] >> 8 & 255
            return
        if register == self.count and self.count:
            buf[0] = len(self.fifo)
            return
        for k in range(len(buf)):
            buf[k] = self.registers.get(register + k, 0)

    def writeto_mem(self, address, register, buf):
        if self.gone:
            raise OSError(19)
        self.writes.append((register, buf[0]))


def test_gauges_deliver_their_units():
    for kind, what, register, value, wanted in (
        ("ina219", "bus", 2, (5000 // 4) << 3 | 2, 5000),
        ("ina219", "shunt", 1, 65536 - 320, -320),
        ("ina226", "bus", 2, 4000, 5000),
        ("max17048", "cell", 2, 3700 * 64 // 5, 3700),
        ("max17048", "charge", 4, 87 * 256 + 128, 875),
    ):
        bus = Bus(0x40, {register: value >> 8, register + 1: value & 255})
        got = open_chip(kind, bus, 0x40, what)()
        assert got == wanted, (kind, what, got, wanted)


def test_accelerometers_report_the_largest_step_of_what_happened():
    for kind, who, data, count, counts, wanted in (
        ("lis3dh", (0x0F, 0x33), 0xA8, 0x2F, 500 << 4, 1000),
        ("adxl345", (0x00, 0xE5), 0x32, 0x39, 256, 998),
    ):
        bus = Bus(0x18, {who[0]: who[1]}, data, count)
        rest = (0, 0, 100 << 4 if kind == "lis3dh" else 256)
        bus.fifo = [rest]
        read = open_chip(kind, bus, 0x18, "shock")
        assert read() == 0, kind
        assert len(bus.writes) == 4, bus.writes
        bus.fifo = [rest, rest, (-counts, 0, rest[2]), rest, rest]
        assert read() == wanted, (kind, wanted)
        bus.fifo = [rest]
        assert read() == 0, kind


def test_an_axis_is_read_for_waveforms():
    for kind, who, register, value, wanted in (
        ("lis3dh", (0x0F, 0x33), 0xAA, (-250 << 4) & 0xFFFF, -500),
        ("adxl345", (0x00, 0xE5), 0x34, 100, 390),
    ):
        bus = Bus(0x18, {who[0]: who[1], register: value & 255, register + 1: value >> 8})
        read = open_chip(kind, bus, 0x18, "y")
        assert read() == wanted, (kind, read())
        setups = len(bus.writes)
        assert read() == wanted and len(bus.writes) == setups > 0, bus.writes
        bus.gone = True
        raises(OSError, read)
        bus.gone = False
        assert read() == wanted and len(bus.writes) == 2 * setups, "set up anew"
        no_alloc(read, 256)


def test_a_chip_that_returns_is_set_up_anew():
    bus = Bus(0x18, {0x0F: 0x33}, 0xA8, 0x2F)
    bus.fifo = [(0, 0, 0)]
    read = open_chip("lis3dh", bus, 0x18, "shock")
    read()
    bus.gone = True
    raises(OSError, read)
    bus.gone = False
    read()
    assert len(bus.writes) == 8, bus.writes


def test_another_chip_is_refused():
    bus = Bus(0x18, {0x0F: 0x32}, 0xA8, 0x2F)
    bus.fifo = [(0, 0, 0)]
    raises(OSError, open_chip("lis3dh", bus, 0x18, "shock"))
    for kind, what in (("ina219", "charge"), ("bme280", "temp"), ("lis3dh", "bus")):
        raises(ValueError, open_chip, kind, bus, 0x18, what)


def test_reading_needs_no_heap():
    bus = Bus(0x40, {2: 0x1F, 3: 0x40})
    read = open_chip("ina226", bus, 0x40, "bus")
    no_alloc(read, 256)


def test_a_register_is_an_integer():
    for kind, data, value in (
        ("u8", b"\xfe", 254),
        ("s8", b"\xfe", -2),
        ("u16be", b"\xfe\x01", 0xFE01),
        ("s16be", b"\xfe\x01", 0xFE01 - 65536),
        ("u16le", b"\x01\xfe", 0xFE01),
        ("s16le", b"\x01\x7e", 0x7E01),
    ):
        bus = Bus(0x48, {7 + i: data[i] for i in range(len(data))})
        assert reader(bus, 0x48, 7, kind)() == value, kind
    raises(KeyError, reader, bus, 0x48, 7, "f32")
    raises(OSError, reader(bus, 0x49, 7, "u8"))
