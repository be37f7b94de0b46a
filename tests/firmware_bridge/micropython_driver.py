"""Drive the MicroPython firmware: a clock, a sensor and a host, all by the scenario. Runs in MicroPython."""

import binascii
import json
import sys
import time

import micropython

sys.path.insert(0, "/")
import firmware

with open("/scenario.json") as file:  # noqa: PTH123  MicroPython has no pathlib
    SCENARIO = json.load(file)

STEP_US = 500


class Clock:
    """The module `time` with a clock that stands until it is set; it wraps at 30 bits as the real one."""

    now = SCENARIO["start_us"] & 0x3FFFFFFF
    ticks_diff = staticmethod(time.ticks_diff)

    @staticmethod
    def ticks_us():
        """Return the microseconds."""
        return Clock.now

    @staticmethod
    def sleep_ms(count):
        """Let time pass."""
        Clock.now = time.ticks_add(Clock.now, count * 1000)


class Sensor:
    """Registers of a sensor on a bus, and its next data-ready."""

    who = SCENARIO["who_am_i"]
    lsm = SCENARIO["lsm"]
    powered = True
    in_read = None

    def __init__(self):
        self.registers = bytearray(128)
        self.registers[0x0F if self.lsm else 0x75] = self.who
        self.address = 0x6A if self.lsm else 0x68
        self.number = 0
        self.elapsed = 0

    def _check(self, address):
        if address != self.address or not self.powered:
            raise OSError(5)

    def readfrom_mem_into(self, address, register, to):
        """Read, as machine.I2C does."""
        self._check(address)
        if self.in_read and register == (0x28 if self.lsm else 0x3B):
            late, self.in_read = self.in_read, None
            late()
        to[:] = self.registers[register : register + len(to)]

    def writeto_mem(self, address, register, data):
        """Write, as machine.I2C does."""
        self._check(address)
        self.registers[register] = data[0]

    def period_us(self):
        """Return the time between two data-readies; 0 where there are none."""
        if not self.powered:
            return 0
        if self.lsm:
            code = self.registers[0x10] >> 4
            return 80_000 if code == 1 else 1_000_000 // (13 << code - 1) if code and self.ready_on() else 0
        return 1000 * (1 + self.registers[0x19]) if self.ready_on() else 0

    def ready_on(self):
        """Tell whether INT shows data-readies."""
        return self.registers[0x0D if self.lsm else 0x38] & 1

    def measure(self):
        """Take new values and return them."""
        self.number += 1
        values = [(self.number * step) % 65536 - 32768 for step in (1, 257, 40503)]
        at = 0x28 if self.lsm else 0x3B
        for value in values:
            low, high = value & 255, value >> 8 & 255
            self.registers[at], self.registers[at + 1] = (low, high) if self.lsm else (high, low)
            at += 2
        return values


class Port:
    """A UART whose other end is the scenario."""

    def __init__(self):
        self.sent = bytearray()
        self.waiting = []
        self.room = None

    def read(self):
        """Return a byte or -1."""
        return self.waiting.pop(0) if self.waiting else -1

    def write(self, data):
        """Take what there is room for."""
        taken = data if self.room is None else data[: self.room]
        self.sent.extend(taken)
        return len(taken)


def interrupt(board):
    """Let a data-ready come as in a hard interrupt: nothing may be allocated."""
    micropython.heap_lock()
    try:
        board.data_ready()
    finally:
        micropython.heap_unlock()


def run():
    """Play the scenario and print what was measured and sent."""
    firmware.time = Clock
    sensor, port = Sensor(), Port()
    board = firmware.Board(sensor, port, "driver", 0x12345678)
    board.begin()
    measured = []
    events = SCENARIO["events"]
    ended = ""
    for step in range(SCENARIO["ms"] * 1000 // STEP_US):
        Clock.now = time.ticks_add(Clock.now, STEP_US)
        while events and events[0][0] * 1000 <= step * STEP_US:
            _, what, argument = events.pop(0)
            if what == "host":
                port.waiting.extend(binascii.unhexlify(argument))
            elif what == "room":
                port.room = argument
            elif what == "power":
                sensor.powered = argument
                sensor.registers[0x10] = sensor.registers[0x0D] = sensor.registers[0x38] = 0
            elif what == "in_read":
                sensor.in_read = lambda: interrupt(board)
            elif what == "hang":
                for _ in range(argument):
                    interrupt(board)
        period = sensor.period_us()
        sensor.elapsed = sensor.elapsed + STEP_US if period else 0
        if period and sensor.elapsed >= period:
            sensor.elapsed -= period
            measured.append([Clock.now, sensor.measure()])
            interrupt(board)
        try:
            board.poll()
        except KeyboardInterrupt:
            ended = "by the host"
            break
    print(json.dumps({"sent": binascii.hexlify(port.sent).decode(), "measured": measured, "ended": ended}))


class Machine:
    """The module `machine`, as far as main() asks for it: one sensor, one pin, no hard interrupts."""

    sensor = Sensor()

    @staticmethod
    def I2C(number, sda, scl, freq):  # noqa: N802  the name that the firmware imports
        """Return the bus."""
        return Machine.sensor

    class Pin:
        """A pin that keeps its handler."""

        IN, IRQ_RISING = 0, 1
        handler = None

        def __init__(self, number, mode=None):
            self.number = number

        def irq(self, handler, trigger=0):
            """Set the handler."""
            Machine.Pin.handler = handler

    @staticmethod
    def unique_id():
        """Return a chip's number."""
        return b"12345678"

    @staticmethod
    def idle():
        """Let a data-ready come in each turn of the loop."""
        Clock.now = time.ticks_add(Clock.now, 10_000)
        Machine.sensor.measure()
        Machine.Pin.handler(None)


def run_main():
    """Run main() until its host wants the prompt back, and print what it sent."""
    console = Port()
    console.waiting.extend([-1] * 300 + list(b"\r\x03"))
    console.close = lambda: None
    firmware.time, firmware.Console = Clock, lambda: console
    firmware.PINS[sys.platform] = (1, 2, 3)
    sys.modules["machine"] = Machine
    ended = ""
    try:
        firmware.main()
    except KeyboardInterrupt:
        ended = "by the host"
    sent = binascii.hexlify(console.sent).decode()
    print(json.dumps({"sent": sent, "ended": ended, "handler": repr(Machine.Pin.handler)}))


run_main() if SCENARIO.get("main") else run()
