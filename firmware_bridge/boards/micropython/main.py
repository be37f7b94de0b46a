"""hypnic firmware for MicroPython (RP2040, ESP32) with an MPU6050 or an LSM6DS.

It speaks the frames of PROTOCOL.md over the console: USB, or the UART behind the board's USB bridge. Of the
LSM6DS those with a pulsed data-ready are known: LSM6DSL, LSM6DS3TR-C, LSM6DSO and LSM6DSOX.

The console no longer stops at Ctrl-C, which may stand in a command; Enter and then Ctrl-C still ends it.
"""

import binascii
import struct
import sys
import time

import micropython

# Pins by platform: SDA, SCL and the sensor's INT (INT1).
PINS = {"rp2": (4, 5, 6), "esp32": (21, 22, 4)}

FIRMWARE = 1 << 8  # major * 256 + minor
I2C_HZ = 400_000
START_UP_MS = 100  # until the registers can be reached after power-on (MPU6050 data sheet, largest)
FIRST_RATE_MHZ = 100_000
FIRST_RANGE_G = 4  # holds a strong jerk on top of gravity; its step lies far under the noise
TICK_HZ = 1_000_000
INFO_EVERY = 5 * TICK_HZ
SILENT_AFTER = TICK_HZ
RETRY_AFTER = TICK_HZ
LONGEST_RECEIVED = 128

SAMPLE, INFO, STATUS, ACK = 1, 2, 3, 4
PING, GET_INFO, START, STOP, SET_RATE, SET_RANGE = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
LENGTHS = {PING: 2, GET_INFO: 2, START: 2, STOP: 2, SET_RATE: 6, SET_RANGE: 3}
DONE, UNKNOWN, NOT_POSSIBLE, NO_SENSOR = 0, 1, 2, 3

# Counters that an interrupt writes must stay small integers (31 bits), as it may not allocate.
SMALL = 0x3FFFFFFF


def crc_step(crc):
    """Return the CRC of eight bits more."""
    for _ in range(8):
        crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


CRC = tuple(crc_step(byte << 8) for byte in range(256))


def crc16(data, length):
    """Return the CRC-16/CCITT-FALSE of the first `length` bytes."""
    crc = 0xFFFF
    for i in range(length):
        crc = (crc << 8 & 0xFFFF) ^ CRC[crc >> 8 ^ data[i]]
    return crc


def stuff(body, length, wire):
    """Write the first `length` bytes as COBS with its 00 to `wire` and return how long that is."""
    code_at, end = 0, 1
    for i in range(length):
        byte = body[i]
        if byte:
            wire[end] = byte
        else:
            wire[code_at] = end - code_at
            code_at = end
        end += 1
    wire[code_at] = end - code_at
    wire[end] = 0
    return end + 1


def unstuff(part):
    """Return what COBS has made `part` of, or None where it is not COBS."""
    out = bytearray()
    at = 0
    while at < len(part):
        code = part[at]
        if at + code > len(part):
            return None
        out += part[at + 1 : at + code]
        at += code
        if at < len(part):
            out.append(0)
    return out


class MPU6050:
    """An MPU6050, or one of its successors that are often sold as one."""

    addresses = (0x68, 0x69)
    who_am_i = 0x75
    parts = {0x68: "MPU6050", 0x70: "MPU6500", 0x71: "MPU9250", 0x73: "MPU9255"}  # noqa: RUF012  MicroPython has no typing
    data = 0x3B
    layout = ">hhh"
    _lowpass_dhz = (1840, 940, 440, 210, 100, 50)

    def nearest_rate(self, asked):
        """Return the possible rate (mHz) nearest to `asked`."""
        return min((1_000_000 // period for period in range(2, 257)), key=lambda rate: abs(rate - asked))

    def lowpass_dhz(self, rate):
        """Return the corner of the low-pass (0.1 Hz) at `rate` (mHz): the widest below half of it."""
        return self._lowpass_dhz[self._lowpass_code(rate) - 1]

    def _lowpass_code(self, rate):
        code = 1
        while code < 6 and self._lowpass_dhz[code - 1] * 200 > rate:
            code += 1
        return code

    def scale(self, range_g):
        """Return g per count as numerator and denominator."""
        return 1, 32768 // range_g

    def registers(self, rate, range_g):
        """Return what to write where, data-ready left off."""
        code = self._lowpass_code(rate)
        return (
            (0x6B, 0x01),  # awake, on the gyroscope's clock, which is steadier
            (0x38, 0x00),
            (0x1A, code),
            (0x1D, code),  # of the successors; the MPU6050 has nothing that matters there
            (0x19, round(1_000_000 / rate) - 1),
            (0x1C, {2: 0, 4: 1, 8: 2, 16: 3}[range_g] << 3),
            (0x37, 0x00),  # INT is a pulse of 50 us
        )

    ready_on = (0x38, 0x01)
    ready_off = (0x38, 0x00)


class LSM6DS:
    """An LSM6DS whose data-ready can be a pulse."""

    addresses = (0x6A, 0x6B)
    who_am_i = 0x0F
    parts = {0x6A: "LSM6DSL", 0x6C: "LSM6DSO"}  # noqa: RUF012  MicroPython has no typing
    data = 0x28
    layout = "<hhh"
    _rates = (12_500, 26_000, 52_000, 104_000, 208_000, 416_000)

    def nearest_rate(self, asked):
        """Return the possible rate (mHz) nearest to `asked`."""
        return min(self._rates, key=lambda rate: abs(rate - asked))

    def lowpass_dhz(self, rate):
        """Return the corner of the low-pass (0.1 Hz) at `rate` (mHz): half of it."""
        return rate // 200

    def scale(self, range_g):
        """Return g per count as numerator and denominator."""
        return 61 * range_g // 2, 1_000_000

    def registers(self, rate, range_g):
        """Return what to write where, data-ready left off."""
        full_scale = {2: 0, 4: 2, 8: 3, 16: 1}[range_g]
        return (
            (0x0D, 0x00),
            (0x12, 0x44),  # values change between reads only; addresses count up
            (0x0B, 0x80),  # data-ready is a pulse of 75 us
            (0x10, (self._rates.index(rate) + 1) << 4 | full_scale << 2),
        )

    ready_on = (0x0D, 0x01)
    ready_off = (0x0D, 0x00)


SENSORS = (MPU6050(), LSM6DS())


class Board:
    """The board's side of PROTOCOL.md.

    Parameters
    ----------
    i2c : machine.I2C
        The bus of the sensor.
    port
        ``read()`` returns a byte from the host or -1, ``write(frame)`` how much was sent.
    name : str
        Of the board, at most 24 characters.
    uid : int
        Tells boards of one kind apart.
    """

    def __init__(self, i2c, port, name, uid):
        self._i2c = i2c
        self._port = port
        self._name = name.encode()
        self._uid = uid
        self._sensor = SENSORS[0]
        self._sensor_name = b""
        self._address = 0
        self._rate = 0
        self._range = FIRST_RANGE_G
        self._wanted = FIRST_RATE_MHZ
        self._configuration = 0
        self._sampling = True
        self._running = False
        # Written by the interrupt alone.
        self._samples = 0
        self._overrun = 0
        self._ready_us = 0
        self._unread = False
        self._missed = 0
        self._i2c_err = 0
        self._tx_drop = 0
        self._rx_bad = 0
        self._part = bytearray()
        self._too_long = False
        self._cut = True  # what the line held before ends at the first 00
        self._boot = True
        self._info_due = self._status_due = False
        self._change_told = False
        self._raw = bytearray(6)
        self._body = bytearray(96)
        self._wire = bytearray(100)
        self._view = memoryview(self._wire)
        self._last_us = time.ticks_us()
        self._last_tick = self._last_us
        self._seen_tick = self._info_tick = self._tried_tick = self._last_tick
        self.data_ready = self._data_ready

    def _data_ready(self, pin=None):
        """Take a data-ready; runs in an interrupt that may not allocate."""
        if self._unread:
            self._overrun = self._overrun + 1 & SMALL
        self._samples = self._samples + 1 & SMALL
        self._ready_us = time.ticks_us()
        self._unread = True

    def _extend(self, us):
        """Return the 32-bit ticks of a moment (30-bit us) near the last look at the clock."""
        return self._last_tick + time.ticks_diff(us, self._last_us) & 0xFFFFFFFF

    def _tick(self):
        us = time.ticks_us()
        self._last_tick, self._last_us = self._extend(us), us
        return self._last_tick

    def _send(self, length):
        """Send the first `length` bytes of the body with their CRC; False where not all of it went."""
        struct.pack_into("<H", self._body, length, crc16(self._body, length))
        size = stuff(self._body, length + 2, self._wire)
        if self._cut:
            self._port.write(b"\0")
        sent = self._port.write(self._view[:size])
        self._cut = sent is not None and sent < size
        return not self._cut

    def _write(self, register, value):
        self._i2c.writeto_mem(self._address, register, bytes((value,)))

    def _find(self):
        """Find the sensor; False where none that is known answers."""
        for sensor in SENSORS:
            for address in sensor.addresses:
                try:
                    self._i2c.readfrom_mem_into(address, sensor.who_am_i, memoryview(self._raw)[:1])
                except OSError:
                    continue
                if self._raw[0] in sensor.parts:
                    self._sensor, self._address = sensor, address
                    self._sensor_name = sensor.parts[self._raw[0]].encode()
                    return True
        self._i2c_err += 1
        return False

    def _start(self, asked, range_g):
        """Set the sensor up and let data-readies come if they are wanted; False where it does not answer."""
        self._running = False
        self._tried_tick = self._tick()
        if not self._find():
            return False
        rate = self._sensor.nearest_rate(asked)
        try:
            self._write(*self._sensor.ready_off)
            if self._unread:
                self._unread = False
                self._missed += 1
            for register, value in self._sensor.registers(rate, range_g):
                self._write(register, value)
            changed = self._rate and (rate != self._rate or range_g != self._range)
            if changed:
                self._configuration = self._configuration + 1 & 15
                self._change_told = False
            self._wanted, self._rate, self._range = asked, rate, range_g
            self._seen_tick = self._tick()
            if self._sampling:
                self._write(*self._sensor.ready_on)
        except OSError:
            self._i2c_err += 1
            return False
        self._running = self._sampling
        return True

    def begin(self):
        """Set the sensor up and introduce the board."""
        self._start(self._wanted, self._range)
        self._send_info()

    def poll(self):
        """Do what there is to do."""
        tick = self._tick()
        if tick - self._info_tick & 0xFFFFFFFF >= INFO_EVERY:
            self._info_due = True
        self._introduce()
        self._listen()
        self._take_sample()
        self._watch_sensor()

    def _introduce(self):
        """Send what is due; False where it did not all go."""
        if self._info_due and not self._send_info():
            return False
        return not self._status_due or self._send_status()

    def _send_info(self):
        rate = self._rate or self._wanted
        flags = self._boot | self._running << 1 | self._configuration << 4
        struct.pack_into("<BBBBH", self._body, 0, INFO, flags, 1, self._range, FIRMWARE)
        struct.pack_into(
            "<IIIIIH",
            self._body,
            6,
            self._uid,
            TICK_HZ,
            rate,
            *self._sensor.scale(self._range),
            self._sensor.lowpass_dhz(rate),
        )
        at = 28
        for name in (self._sensor_name, self._name):
            self._body[at] = len(name)
            self._body[at + 1 : at + 1 + len(name)] = name
            at += 1 + len(name)
        if not self._send(at):
            return False
        self._info_tick = self._tick()
        self._status_due = not self._boot
        self._info_due = self._boot = False
        self._change_told = True
        return True

    def _send_status(self):
        while True:
            samples, unread, missed = self._samples, self._unread, self._missed + self._overrun
            if samples == self._samples:  # no data-ready came in between
                break
        # A sample that is still to be read is still to be counted.
        samples -= unread
        struct.pack_into("<BBHI", self._body, 0, STATUS, 0, self._rx_bad & 0xFFFF, self._tick())
        counts = samples, self._i2c_err, self._tx_drop, missed
        struct.pack_into("<IIII", self._body, 8, *(count & 0xFFFFFFFF for count in counts))
        if not self._send(24):
            return False
        self._status_due = False
        return True

    def _take_sample(self):
        if not self._unread:
            return
        # Read before the flag falls: a data-ready in between counts this one as missed.
        number, us = self._samples, self._ready_us
        self._unread = False
        try:
            self._i2c.readfrom_mem_into(self._address, self._sensor.data, self._raw)
            answers = True
        except OSError:
            self._i2c_err += 1
            answers = False
        self._seen_tick = self._tick()
        # With another data-ready meanwhile, nobody can tell which of the two was read.
        if not (answers and self._running and self._samples == number):
            self._missed += 1
            return
        tick = self._extend(us)
        struct.pack_into("<BBHI", self._body, 0, SAMPLE, self._configuration << 4, number - 1 & 0xFFFF, tick)
        struct.pack_into("<hhh", self._body, 8, *struct.unpack(self._sensor.layout, self._raw))
        if not self._change_told or not self._send(14):
            self._tx_drop += 1

    def _watch_sensor(self):
        """Set a sensor up again that has fallen silent: it has lost its power or its wires."""
        if not self._sampling:
            return
        tick = self._tick()
        if self._running and tick - self._seen_tick & 0xFFFFFFFF > SILENT_AFTER:
            self._running = False
            self._info_due = True
            self._tried_tick = tick - RETRY_AFTER
        if (
            not self._running
            and tick - self._tried_tick & 0xFFFFFFFF >= RETRY_AFTER
            and self._start(self._wanted, self._range)
        ):
            self._info_due = True

    def _listen(self):
        while True:
            byte = self._port.read()
            if byte < 0:
                return
            if byte:
                if len(self._part) < LONGEST_RECEIVED:
                    self._part.append(byte)
                    # No frame begins so, but a person who wants the prompt back does, and so does mpremote.
                    if self._part == b"\r\x03":
                        raise KeyboardInterrupt
                else:
                    self._too_long = True
                continue
            part, self._part = self._part, bytearray()
            if self._too_long:
                self._too_long = False
                self._rx_bad += 1
            elif part:
                self._frame(part)

    def _frame(self, part):
        body = unstuff(part)
        if body is None or len(body) < 3:
            self._rx_bad += 1
            return
        size = len(body) - 2
        right = crc16(body, size) == body[size] | body[size + 1] << 8
        if not right or LENGTHS.get(body[0], size) != size:
            self._rx_bad += 1
        elif 0x10 <= body[0] <= 0x1F and size >= 2:
            status = self._obey(body[0], int.from_bytes(body[2:size], "little") if body[0] in LENGTHS else 0)
            struct.pack_into("<BBBBI", self._body, 0, ACK, body[0], body[1], status, self._tick())
            self._send(8)
            self._introduce()

    def _obey(self, command, value):
        wanted, range_g, sampling = self._wanted, self._range, self._sampling
        if command == PING:
            return DONE
        if command == GET_INFO:
            self._info_due = True
            return DONE
        if command in (START, STOP):
            self._sampling = command == START
        elif command == SET_RATE:
            wanted = self._sensor.nearest_rate(value)
            if abs(wanted - value) * 10 > value:
                return NOT_POSSIBLE
        elif command == SET_RANGE:
            if value not in (2, 4, 8, 16):
                return NOT_POSSIBLE
            range_g = value
        else:
            return UNKNOWN
        same = sampling == self._sampling and range_g == self._range and wanted in (self._rate, self._wanted)
        if not (same and self._running == self._sampling) and not self._start(wanted, range_g):
            return NO_SENSOR
        self._info_due = True
        return DONE


class Console:
    """The console as a port: whatever bytes, without a wait for those from the host."""

    def __init__(self):
        import select

        micropython.kbd_intr(-1)
        self._waiting = select.poll()
        self._waiting.register(sys.stdin, select.POLLIN)

    def read(self):
        """Return a byte from the host, or -1 where there is none."""
        return sys.stdin.buffer.read(1)[0] if self._waiting.poll(0) else -1

    def write(self, data):
        """Send bytes and return how many of them went."""
        return sys.stdout.buffer.write(data)

    def close(self):
        """Give the console back."""
        micropython.kbd_intr(3)


def main():
    """Run the board until it is told to end."""
    import machine

    sda, scl, ready = PINS[sys.platform]
    i2c = machine.I2C(0, sda=machine.Pin(sda), scl=machine.Pin(scl), freq=I2C_HZ)
    time.sleep_ms(START_UP_MS)
    console = Console()
    board = Board(i2c, console, sys.platform, binascii.crc32(machine.unique_id()))
    pin = machine.Pin(ready, machine.Pin.IN)
    try:
        try:
            pin.irq(board.data_ready, machine.Pin.IRQ_RISING, hard=True)
        except TypeError:  # the ESP32 has no hard interrupts
            pin.irq(board.data_ready, machine.Pin.IRQ_RISING)
        board.begin()
        while True:
            board.poll()
            machine.idle()
    finally:
        pin.irq(None)
        console.close()


if __name__ == "__main__":
    main()
