"""The page of memory a virtual board shares with its supervisor: what the board senses and what it reports.

One file for both sides: the supervisor maps the page, the board reads and writes it through a file descriptor. All
numbers are little-endian and aligned. The supervisor zeroes nothing at a reset, so counters span the board's life.

    0     u32  MAGIC
    4     u32  RESET_CAUSE   cause of the last reset, as machine.reset_cause() returns it
    8     u32  BOOT_FLAGS    bit 0: main.py is skipped (soft reset from the raw REPL)
    12    u32  FLASH_BLOCKS  size of the file system's flash in blocks of 4096 bytes
    16    8 B  UID           machine.unique_id()
    24    u32  RAW_BLOCKS    flash blocks behind it that the file system does not use
    32    u32  CUT_LEFT      programs and erases the flash still completes before the power fails; CUT_OFF: no cut
    36    u32  CUT_TORN      what the failing write leaves: 0 nothing, 1 its first half, 2 a random part
    40    u32  CUT_SEED      seed of the random part
    44    u32  ERASE_US      how long the flash takes to erase a block, and
    48    u32  PROGRAM_US    to program a page of 256 bytes; meanwhile the board does nothing else
    52    u32  PROGRAM_BYTES least program of the file system
    64    u32  PROGRAMS      flash programs so far (written by the board, as are all up to 92)
    68    u32  ERASES        flash erases so far
    72    u32  PROGRAMMED    bytes programmed so far
    76    u32  FORMATS       times the file system was made anew
    80    u32  WDT_FEEDS     feeds of the watchdog so far
    84    u32  FLASH_BUSY    how long the flash operation under way takes, in us; 0 when there is none
    128   u16  ADC[64]       raw readings 0..65535 by ADC number
    256   u8   PIN_IN[64]    input levels by pin number
    320   u8   PIN_OUT[64]   levels the board drives; PIN_FLOATS: the pin is not an output
    512   8 slots of I2C devices, 520 bytes each:
          u8 used, u8 bus, u8 address, u8 bytes per register (1 or 2), 4 B unused, 512 B registers
    4672  64 tones, one on top of each ADC reading: u16 amplitude, u16 Hz
    5184  u32  WARP          node time runs this many times as fast as the clock (0 as 1)
    8192  u16  WEAR[2048]    erases of each of the first 2048 flash blocks, up to 65535 (written by the board)
"""

SIZE = 12288
MAGIC_VALUE = 0x4C544E53

MAGIC = 0
RESET_CAUSE = 4
BOOT_FLAGS = 8
FLASH_BLOCKS = 12
UID = 16
RAW_BLOCKS = 24
CUT_LEFT = 32
CUT_TORN = 36
CUT_SEED = 40
ERASE_US = 44
PROGRAM_US = 48
PROGRAM_BYTES = 52
PROGRAMS = 64
ERASES = 68
PROGRAMMED = 72
FORMATS = 76
WDT_FEEDS = 80
FLASH_BUSY = 84
ADC = 128
PIN_IN = 256
PIN_OUT = 320
I2C = 512
TONE = 4672
WARP = 5184
WEAR = 8192

CHANNELS = 64
WEAR_BLOCKS = 2048
SLOTS = 8
SLOT_BYTES = 520
SLOT_REGISTERS = 8
REGISTERS_BYTES = 512

CUT_OFF = 0xFFFFFFFF
PIN_FLOATS = 255
SKIP_MAIN = 1

# File descriptors the board inherits.
FD_CONTROL = 3
FD_UART = 4
FD_FLASH = 5
FD_PAGE = 6
FD_ONBOARD = 7

# Reset causes, numbered as on the ESP32.
PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
