/* A simulated board: the machine code of a firmware for the ATmega328P in simavr, an MPU6050 on its I2C bus that
 * plays a waveform, and a pty on its UART.
 *
 * Time. `true time` is that of the world: seconds since the start. The microcontroller's crystal and the sensor's
 * oscillator each run at their own error against it. With a speed, true time is the wall clock's times that;
 * without one the simulation runs as fast as it can and waits for the reader of the pty.
 *
 * The truth is logged before any fault: each data-ready with its values, and each byte as the UART sent it.
 *
 * What simavr does not do as the chip: a byte on I2C takes 9 us whatever TWBR says (22.5 us at 400 kHz), and one on
 * the UART 11 bits instead of 10. The sensor's low-pass, noise and temperature are those of the waveform.
 *
 * Started by the Python module beside it, which documents the options and speaks with it over stdin and stdout.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <simavr/avr_extint.h>
#include <simavr/avr_ioport.h>
#include <simavr/avr_twi.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>

#define MCU "atmega328p"
#define FREQUENCY 16000000.0 /* of the crystal, nominally, in Hz */
#define BAUD 115200.0
#define MOST_EVENTS 64
#define BUFFER 65536
/* Cycles that simavr may run at once where neither a timer nor an interrupt is due: speed, nothing else. */
#define RUN_CYCLES 1000
/* Jobs that the wall clock does not need to see sooner than this, in frames. */
#define LOOK_EVERY 16

/* The sensor: registers of the MPU-6050, as far as a firmware can tell. */
enum {
    SMPLRT_DIV = 0x19,
    ACCEL_CONFIG = 0x1C,
    INT_ENABLE = 0x38,
    INT_STATUS = 0x3A,
    ACCEL_XOUT_H = 0x3B,
    ACCEL_ZOUT_L = 0x40,
    GYRO_ZOUT_L = 0x48,
    PWR_MGMT_1 = 0x6B,
    WHO_AM_I = 0x75,
    REGISTERS = 0x80,
    DATA_READY = 0x01,
    ASLEEP = 0x40,
    DEVICE_RESET = 0x80
};
#define SENSOR_START_UP 0.03 /* s from power-on until it answers (data sheet: 20 ms typical, 100 at most) */
#define INT_PULSE_US 50      /* data sheet */

/* One data-ready; the layout is that of TRUTH in __init__.py. */
typedef struct __attribute__((packed)) {
    double time;    /* true time in s */
    uint64_t cycle; /* of the microcontroller since its last reset */
    uint32_t boot;  /* resets and power-ons before it */
    int16_t xyz[3];
    uint8_t range_g;
    uint8_t read; /* the firmware has read these values while they were the latest */
} truth;

/* What was handed to the host at once, after faults: DELIVERIES in __init__.py. */
typedef struct __attribute__((packed)) {
    double time; /* true time in s */
    uint32_t bytes;
} delivery;

static struct {
    const char *firmware, *waveform, *truth, *wire, *deliveries, *link, *poke;
    double speed, seconds, drop, flip, crystal_ppm, sensor_ppm, latency_ms;
    uint64_t seed;
    unsigned who;
    bool hold;
} option = {.latency_ms = 1, .who = 0x68};

static struct event {
    double time;
    char command[32];
} events[MOST_EVENTS];
static int n_events, next_event;

static avr_t *avr;
static avr_uart_t *uart;
static avr_twi_t *twi;
static elf_firmware_t elf;

static double origin_time; /* true time at origin_cycle */
static uint64_t origin_cycle, boot_cycle;
static uint32_t boot;
static struct timespec wall_start;
static double worst_lag;
static enum { NOTHING, RESET, UNPLUG, END } to_do;
static bool plugged, quit;

static int master = -1, slave = -1;
static char port[64];
static FILE *truth_file, *wire_file, *deliveries_file;

static uint8_t out[BUFFER];
static int n_out;
static uint8_t in[BUFFER];
static int n_in, next_in;
static uint64_t n_sent, n_delivered, n_dropped, n_flipped, n_overrun, n_ready, n_received;

static struct {
    bool powered;
    uint8_t reg[REGISTERS];
    double on_since; /* true time */
    double ms;       /* the sensor's own time at its next sample */
    uint8_t latest[GYRO_ZOUT_L - ACCEL_XOUT_H + 1], held[GYRO_ZOUT_L - ACCEL_XOUT_H + 1];
    bool latest_known, held_is_latest;
    truth last;
    uint8_t selected, pointer;
    bool pointer_next;
    avr_irq_t *irq;
} sensor;

static int16_t (*wave)[3];
static size_t n_wave;
static double wave_rate, wave_per_g;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("simboard: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    va_end(arguments);
}

/* SplitMix64 (Steele, Lea and Flood 2014): a number from 0 to 1. */
static double chance(void) {
    uint64_t z = option.seed += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Clocks. */

static double crystal_hz(void) {
    return FREQUENCY * (1 + option.crystal_ppm * 1e-6);
}

static double true_time(void) {
    return origin_time + (double)(avr->cycle - origin_cycle) / crystal_hz();
}

static double wall(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - wall_start.tv_sec) + (double)(now.tv_nsec - wall_start.tv_nsec) * 1e-9;
}

/* Wait until the wall clock shows this true time. */
static void pace(double time) {
    double due = time / option.speed, late = wall() - due;
    struct timespec until = wall_start;
    double whole;
    if (late >= 0) {
        if (late > worst_lag)
            worst_lag = late;
        return;
    }
    until.tv_nsec += (long)(modf(due, &whole) * 1e9);
    until.tv_sec += (time_t)whole + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static avr_cycle_count_t cycles_until(double time) {
    double cycles = ceil((time - true_time()) * crystal_hz());
    return cycles > 1 ? (avr_cycle_count_t)cycles : 1;
}

/* The sensor. */

static double sensor_hz(void) {
    return 1000 * (1 + option.sensor_ppm * 1e-6);
}

static uint8_t range_code(void) {
    return sensor.reg[ACCEL_CONFIG] >> 3 & 3;
}

static void keep_truth(void) {
    if (sensor.latest_known && truth_file && fwrite(&sensor.last, sizeof sensor.last, 1, truth_file) != 1)
        die("cannot write the truth: %s", strerror(errno));
    sensor.latest_known = false;
}

static avr_cycle_count_t int_falls(avr_t *which, avr_cycle_count_t when, void *param) {
    (void)when, (void)param;
    avr_raise_irq(avr_io_getirq(which, AVR_IOCTL_IOPORT_GETIRQ('D'), 2), 0);
    return 0;
}

static int16_t counts(int16_t value) {
    double scaled = rint(value * (16384 >> range_code()) / wave_per_g);
    return (int16_t)(scaled > 32767 ? 32767 : scaled < -32768 ? -32768 : scaled);
}

static avr_cycle_count_t measure(avr_t *which, avr_cycle_count_t when, void *param) {
    const int16_t *now = wave[(uint64_t)floor(sensor.ms * wave_rate / 1000 + 1e-6) % n_wave];
    int axis;
    (void)when, (void)param;
    keep_truth();
    for (axis = 0; axis < 3; axis++) {
        int16_t value = counts(now[axis]);
        sensor.last.xyz[axis] = value;
        sensor.latest[2 * axis] = (uint8_t)((uint16_t)value >> 8);
        sensor.latest[2 * axis + 1] = (uint8_t)value;
    }
    sensor.held_is_latest = false;
    sensor.reg[INT_STATUS] |= DATA_READY;
    if (sensor.reg[INT_ENABLE] & DATA_READY) {
        n_ready++;
        sensor.latest_known = true;
        sensor.last.time = true_time();
        sensor.last.cycle = which->cycle - boot_cycle;
        sensor.last.boot = boot;
        sensor.last.range_g = (uint8_t)(2 << range_code());
        sensor.last.read = 0;
        avr_raise_irq(avr_io_getirq(which, AVR_IOCTL_IOPORT_GETIRQ('D'), 2), 1);
        avr_cycle_timer_register_usec(which, INT_PULSE_US, int_falls, NULL);
    }
    sensor.ms += 1 + sensor.reg[SMPLRT_DIV];
    return which->cycle + cycles_until(sensor.ms / sensor_hz());
}

/* Measure at the set rate from now on, or go on so after the microcontroller's reset. */
static void schedule(bool anew) {
    avr_cycle_timer_cancel(avr, measure, NULL);
    if (!sensor.powered || sensor.reg[PWR_MGMT_1] & ASLEEP)
        return;
    if (anew)
        sensor.ms = floor(true_time() * sensor_hz()) + 1 + sensor.reg[SMPLRT_DIV];
    avr_cycle_timer_register(avr, cycles_until(sensor.ms / sensor_hz()), measure, NULL);
}

static void sensor_power(bool on) {
    keep_truth();
    memset(sensor.reg, 0, sizeof sensor.reg);
    sensor.reg[PWR_MGMT_1] = ASLEEP;
    sensor.reg[WHO_AM_I] = (uint8_t)option.who;
    sensor.powered = on;
    sensor.on_since = true_time();
    sensor.selected = 0;
    schedule(true);
}

static void sensor_write(uint8_t reg, uint8_t value) {
    if (reg >= REGISTERS || reg == WHO_AM_I || (reg >= INT_STATUS && reg <= GYRO_ZOUT_L))
        return;
    if (reg == PWR_MGMT_1 && value & DEVICE_RESET) {
        sensor_power(true);
        return;
    }
    sensor.reg[reg] = value;
    if (reg == PWR_MGMT_1 || reg == SMPLRT_DIV)
        schedule(true);
}

static uint8_t sensor_read(uint8_t reg) {
    uint8_t value;
    if (reg >= ACCEL_XOUT_H && reg <= GYRO_ZOUT_L) {
        if (reg == ACCEL_ZOUT_L && sensor.held_is_latest && sensor.latest_known)
            sensor.last.read = 1;
        return sensor.held[reg - ACCEL_XOUT_H];
    }
    value = reg < REGISTERS ? sensor.reg[reg] : 0;
    if (reg == INT_STATUS)
        sensor.reg[INT_STATUS] = 0;
    return value;
}

static void on_bus(struct avr_irq_t *irq, uint32_t value, void *param) {
    avr_twi_msg_irq_t message;
    (void)irq, (void)param;
    message.u.v = value;
    if (message.u.twi.msg & TWI_COND_STOP)
        sensor.selected = 0;
    if (message.u.twi.msg & TWI_COND_START) {
        /* simavr 1.6 takes the address in the data register for data, and then answers SLA+W with 0x28. */
        twi->state &= (uint8_t)~TWI_COND_WRITE;
        sensor.selected = 0;
        if (sensor.powered && message.u.twi.addr >> 1 == 0x68 && true_time() - sensor.on_since >= SENSOR_START_UP) {
            sensor.selected = message.u.twi.addr;
            sensor.pointer_next = !(message.u.twi.addr & 1);
            /* What is read in one go belongs together. */
            memcpy(sensor.held, sensor.latest, sizeof sensor.held);
            sensor.held_is_latest = true;
            avr_raise_irq(sensor.irq + TWI_IRQ_INPUT, avr_twi_irq_msg(TWI_COND_ACK, sensor.selected, 1));
        }
    }
    if (!sensor.selected)
        return;
    if (message.u.twi.msg & TWI_COND_WRITE) {
        avr_raise_irq(sensor.irq + TWI_IRQ_INPUT, avr_twi_irq_msg(TWI_COND_ACK, sensor.selected, 1));
        if (sensor.pointer_next)
            sensor.pointer = message.u.twi.data;
        else
            sensor_write(sensor.pointer++, message.u.twi.data);
        sensor.pointer_next = false;
    }
    if (message.u.twi.msg & TWI_COND_READ)
        avr_raise_irq(sensor.irq + TWI_IRQ_INPUT,
                      avr_twi_irq_msg(TWI_COND_READ, sensor.selected, sensor_read(sensor.pointer++)));
}

/* The wire. */

static void open_port(void) {
    struct termios raw;
    master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (master < 0 || grantpt(master) || unlockpt(master) || ptsname_r(master, port, sizeof port))
        die("cannot make a pty: %s", strerror(errno));
    /* Open on this side too, so that nothing is lost or hung up while nobody else has it open. */
    slave = open(port, O_RDWR | O_NOCTTY);
    if (slave < 0 || tcgetattr(slave, &raw))
        die("cannot open %s: %s", port, strerror(errno));
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    if (option.link) {
        unlink(option.link);
        if (symlink(port, option.link))
            die("cannot make the link %s: %s", option.link, strerror(errno));
    }
    plugged = true;
}

/* Pull the plug, once the host has had the time to read what it was handed: closing a pty throws that away. */
static void close_port(void) {
    int waiting = 0, empty = 0, rounds;
    for (rounds = 0; rounds < 1000 && empty < 3 && !ioctl(slave, FIONREAD, &waiting); rounds++) {
        empty = waiting ? 0 : empty + 1;
        usleep(1000);
    }
    if (option.link)
        unlink(option.link);
    close(master);
    close(slave);
    n_out = n_in = next_in = 0;
    plugged = false;
}

/* Spoil a byte, or lose it: false. */
static bool survives(uint8_t *byte) {
    int bit;
    if (option.drop > 0 && chance() < option.drop) {
        n_dropped++;
        return false;
    }
    for (bit = 0; option.flip > 0 && bit < 8; bit++)
        if (chance() < option.flip) {
            *byte ^= (uint8_t)(1 << bit);
            n_flipped++;
        }
    return true;
}

static void on_uart(struct avr_irq_t *irq, uint32_t value, void *param) {
    uint8_t byte = (uint8_t)value;
    (void)irq, (void)param;
    n_sent++;
    if (wire_file && fputc(byte, wire_file) == EOF)
        die("cannot write the wire's log: %s", strerror(errno));
    if (!survives(&byte))
        return;
    if (n_out < BUFFER)
        out[n_out++] = byte;
    else
        n_overrun++;
}

static avr_cycle_count_t hand_in(avr_t *which, avr_cycle_count_t when, void *param) {
    (void)param;
    if (next_in == n_in) {
        n_in = next_in = 0;
        return 0;
    }
    n_received++;
    avr_raise_irq(avr_io_getirq(which, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT), in[next_in++]);
    return when + (avr_cycle_count_t)(10 * FREQUENCY / BAUD);
}

static void act(const char *command) {
    double value;
    if (!strcmp(command, "reset"))
        to_do = RESET;
    else if (!strcmp(command, "unplug"))
        to_do = UNPLUG;
    else if (!strcmp(command, "sensor off"))
        sensor_power(false);
    else if (!strcmp(command, "sensor on"))
        sensor_power(true);
    else if (sscanf(command, "drop %lf", &value) == 1)
        option.drop = value;
    else if (sscanf(command, "flip %lf", &value) == 1)
        option.flip = value;
    else if (!strcmp(command, "quit"))
        quit = true;
    else if (strcmp(command, "plug") && strcmp(command, "go"))
        die("unknown command: %s", command);
}

/* Read the commands that have come, waiting for one at most `wait_ms`, and return the last; NULL where none has. */
static const char *listen(int wait_ms, bool to_port) {
    static char line[256];
    static size_t length;
    static char last[256];
    struct pollfd on[] = {{STDIN_FILENO, POLLIN, 0}, {master, (short)(POLLIN | (to_port ? POLLOUT : 0)), 0}};
    const char *found = NULL;
    if (poll(on, plugged ? 2 : 1, wait_ms) < 0 && errno != EINTR)
        die("poll: %s", strerror(errno));
    if (plugged && on[1].revents & POLLIN) {
        uint8_t bytes[256];
        ssize_t count = read(master, bytes, sizeof bytes), i;
        bool idle = next_in == n_in;
        for (i = 0; i < count; i++)
            if (survives(&bytes[i]) && n_in < BUFFER)
                in[n_in++] = bytes[i];
        if (idle && next_in < n_in)
            avr_cycle_timer_register(avr, (avr_cycle_count_t)(10 * FREQUENCY / BAUD), hand_in, NULL);
    }
    if (on[0].revents) {
        ssize_t count = read(STDIN_FILENO, line + length, sizeof line - length - 1);
        char *end;
        if (count <= 0) {
            quit = true;
            return NULL;
        }
        length += (size_t)count;
        line[length] = 0;
        while ((end = strchr(line, '\n'))) {
            *end = 0;
            strcpy(last, line);
            length -= (size_t)(end + 1 - line);
            memmove(line, end + 1, length + 1);
            act(last);
            found = last;
        }
    }
    return found;
}

/* Hand what the UART has sent to the host; a host that does not read loses it, unless time is ours. */
static void deliver(void) {
    int from = 0;
    while (from < n_out && !quit) {
        ssize_t count = write(master, out + from, (size_t)(n_out - from));
        if (count > 0)
            from += (int)count, n_delivered += (uint64_t)count;
        else if (option.speed > 0) {
            n_overrun += (uint64_t)(n_out - from);
            break;
        } else
            listen(100, true);
    }
    if (from && deliveries_file) {
        delivery log = {true_time(), (uint32_t)from};
        if (fwrite(&log, sizeof log, 1, deliveries_file) != 1)
            die("cannot write the log of deliveries: %s", strerror(errno));
    }
    n_out = 0;
}

/* What happens once in every `latency_ms` of true time: the bridge hands over, and the world is looked at. */
static avr_cycle_count_t frame(avr_t *which, avr_cycle_count_t when, void *param) {
    static unsigned frames;
    double now = true_time();
    (void)param, (void)which;
    if (option.speed > 0)
        pace(now);
    deliver();
    if (option.speed > 0 || ++frames % LOOK_EVERY == 0)
        listen(0, false);
    while (next_event < n_events && events[next_event].time <= now && to_do == NOTHING)
        act(events[next_event++].command);
    if (to_do == NOTHING && option.seconds > 0 && now >= option.seconds)
        to_do = END;
    return when + (avr_cycle_count_t)(option.latency_ms * 1e-3 * FREQUENCY);
}

/* The board. */

static void start_processor(void) {
    avr_reset(avr);
    avr->run_cycle_limit = RUN_CYCLES;
    boot_cycle = avr->cycle;
    avr_cycle_timer_register(avr, (avr_cycle_count_t)(option.latency_ms * 1e-3 * FREQUENCY), frame, NULL);
    if (next_in < n_in)
        avr_cycle_timer_register(avr, (avr_cycle_count_t)(10 * FREQUENCY / BAUD), hand_in, NULL);
    avr_raise_irq(avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ('D'), 2), 0);
    schedule(false);
}

static avr_symbol_t *symbol(const char *name) {
    uint32_t i;
    for (i = 0; i < elf.symbolcount; i++)
        if (!strcmp(elf.symbol[i]->symbol, name))
            return elf.symbol[i];
    die("the firmware has no symbol %s", name);
    return NULL;
}

/* Set a variable of the firmware (NAME=VALUE,BYTES) once its start-up code has run. */
static void poke(const char *what) {
    char name[64];
    unsigned long value;
    unsigned bytes, i;
    uint32_t entry = symbol("main")->addr;
    if (sscanf(what, "%63[^=]=%lu,%u", name, &value, &bytes) != 3)
        die("--poke %s is not NAME=VALUE,BYTES", what);
    avr->run_cycle_limit = avr->run_cycle_count = 1;
    while (avr->pc != entry)
        if (avr_run(avr) == cpu_Crashed)
            die("the firmware crashed before its main");
    for (i = 0; i < bytes; i++)
        avr->data[(symbol(name)->addr & 0xFFFF) + i] = (uint8_t)(value >> 8 * i);
    avr->run_cycle_limit = RUN_CYCLES;
}

static void no_sleep(avr_t *which, avr_cycle_count_t how_long) {
    (void)which, (void)how_long;
}

static void log_errors(avr_t *which, const int level, const char *format, va_list arguments) {
    (void)which;
    if (level == LOG_ERROR)
        vfprintf(stderr, format, arguments);
}

static void make_processor(void) {
    uint32_t flags = 0;
    avr_io_t *part;
    avr_global_logger_set(log_errors);
    if (elf_read_firmware(option.firmware, &elf))
        die("cannot read the firmware %s", option.firmware);
    avr = avr_make_mcu_by_name(MCU);
    if (!avr)
        die("simavr does not know the %s", MCU);
    avr_init(avr);
    avr->frequency = (uint32_t)FREQUENCY;
    avr_load_firmware(avr, &elf);
    avr->frequency = (uint32_t)FREQUENCY;
    avr->sleep = no_sleep;
    for (part = avr->io_port; part; part = part->next) {
        if (!strcmp(part->kind, "twi"))
            twi = (avr_twi_t *)part;
        if (!strcmp(part->kind, "uart"))
            uart = (avr_uart_t *)part;
    }
    if (!twi || !uart)
        die("simavr's %s has no TWI or no UART", MCU);
    /* simavr 1.6 never clears TWINT for code that polls it. */
    twi->twi.raise_sticky = 0;
    /* Nor stops interrupting for a pin that fell before its mode was set. */
    avr_extint_set_strict_lvl_trig(avr, 0, 0);
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    sensor.irq = avr_alloc_irq(&avr->irq_pool, 0, 2, (const char *[]){"8>mpu6050.out", "32<mpu6050.in"});
    avr_irq_register_notify(sensor.irq + TWI_IRQ_OUTPUT, on_bus, NULL);
    avr_connect_irq(sensor.irq + TWI_IRQ_INPUT, avr_io_getirq(avr, AVR_IOCTL_TWI_GETIRQ(0), TWI_IRQ_INPUT));
    avr_connect_irq(avr_io_getirq(avr, AVR_IOCTL_TWI_GETIRQ(0), TWI_IRQ_OUTPUT), sensor.irq + TWI_IRQ_OUTPUT);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_uart, NULL);
}

/* Without power until it is plugged in again. */
static void stay_unplugged(void) {
    double since = true_time(), back = since + 1;
    keep_truth();
    sensor.powered = false;
    close_port();
    say("unplugged %.6f", since);
    for (;;) {
        const char *command;
        double next = next_event < n_events ? events[next_event].time : INFINITY, now;
        bool end = option.seconds > 0 && option.seconds < next;
        if (end)
            next = option.seconds;
        now = option.speed > 0 ? wall() * option.speed : since;
        if (next <= now || (option.speed <= 0 && next < INFINITY)) {
            if (end) {
                origin_time = option.seconds;
                origin_cycle = avr->cycle;
                to_do = END;
                return;
            }
            act(events[next_event].command);
            if (!strcmp(events[next_event++].command, "plug")) {
                back = next;
                break;
            }
            continue;
        }
        command = listen(next < INFINITY ? (int)(1000 * (next - now) / option.speed) + 1 : -1, false);
        if (quit)
            return;
        if (command && !strcmp(command, "plug")) {
            back = option.speed > 0 ? wall() * option.speed : since + 1;
            break;
        }
    }
    to_do = NOTHING;
    origin_time = back > since ? back : since;
    origin_cycle = avr->cycle;
    boot++;
    open_port();
    start_processor();
    sensor_power(true);
    say("plugged %.6f %s", origin_time, port);
}

static void run(void) {
    while (!quit) {
        int state = avr_run(avr);
        if (state == cpu_Crashed || state == cpu_Done)
            die("the firmware has %s at %.6f s, pc %04x", state == cpu_Done ? "stopped" : "crashed", true_time(),
                avr->pc);
        if (to_do == NOTHING)
            continue;
        if (to_do == END)
            return;
        if (to_do == UNPLUG) {
            stay_unplugged();
            if (to_do == END)
                return;
            continue;
        }
        to_do = NOTHING;
        boot++;
        keep_truth();
        start_processor();
        say("reset %.6f", true_time());
    }
}

/* Read a waveform: "hypnicwf", rate in Hz and counts per g (float64), then x, y, z (int16), little-endian. */
static void read_waveform(const char *path) {
    char magic[8];
    long size;
    FILE *file = fopen(path, "rb");
    if (!file || fread(magic, 8, 1, file) != 1 || memcmp(magic, "hypnicwf", 8) ||
        fread(&wave_rate, 8, 1, file) != 1 || fread(&wave_per_g, 8, 1, file) != 1)
        die("%s is not a waveform", path);
    fseek(file, 0, SEEK_END);
    size = ftell(file) - 24;
    fseek(file, 24, SEEK_SET);
    n_wave = (size_t)size / 6;
    wave = malloc(n_wave * 6 + 1);
    if (!n_wave || !wave || !(wave_rate > 0) || !(wave_per_g > 0) || fread(wave, 6, n_wave, file) != n_wave)
        die("the waveform %s holds no samples", path);
    fclose(file);
}

static void add_event(const char *what) {
    int at = n_events;
    struct event event;
    if (n_events == MOST_EVENTS || sscanf(what, "%lf=%31[^\n]", &event.time, event.command) != 2)
        die("--at %s is not SECONDS=COMMAND, or there are too many", what);
    for (; at > 0 && events[at - 1].time > event.time; at--)
        events[at] = events[at - 1];
    events[at] = event;
    n_events++;
}

static void read_options(int count, char **words) {
    struct {
        const char *name;
        const char **text;
        double *number;
    } known[] = {
        {"--firmware", &option.firmware, NULL}, {"--waveform", &option.waveform, NULL},
        {"--truth", &option.truth, NULL},       {"--wire", &option.wire, NULL},
        {"--link", &option.link, NULL},         {"--poke", &option.poke, NULL},
        {"--deliveries", &option.deliveries, NULL},
        {"--speed", NULL, &option.speed},       {"--seconds", NULL, &option.seconds},
        {"--drop", NULL, &option.drop},         {"--flip", NULL, &option.flip},
        {"--crystal-ppm", NULL, &option.crystal_ppm},
        {"--sensor-ppm", NULL, &option.sensor_ppm},
        {"--latency-ms", NULL, &option.latency_ms},
    };
    int i;
    size_t k;
    for (i = 1; i < count; i += 2) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        for (k = 0; k < sizeof known / sizeof *known && strcmp(known[k].name, words[i]); k++)
            ;
        if (k < sizeof known / sizeof *known) {
            if (known[k].text)
                *known[k].text = value;
            else
                *known[k].number = atof(value);
        } else if (!strcmp(words[i], "--at"))
            add_event(value);
        else if (!strcmp(words[i], "--seed"))
            option.seed = strtoull(value, NULL, 0);
        else if (!strcmp(words[i], "--who-am-i"))
            option.who = (unsigned)strtoul(value, NULL, 0);
        else if (!strcmp(words[i], "--hold"))
            option.hold = atoi(value);
        else
            die("unknown option %s", words[i]);
    }
    if (!option.firmware || !option.waveform)
        die("give --firmware and --waveform");
}

static FILE *log_to(const char *path) {
    FILE *file = path ? fopen(path, "wb") : NULL;
    if (path && !file)
        die("cannot write %s: %s", path, strerror(errno));
    return file;
}

int main(int count, char **words) {
    struct timespec now;
    struct rusage usage;
    read_options(count, words);
    read_waveform(option.waveform);
    truth_file = log_to(option.truth);
    wire_file = log_to(option.wire);
    deliveries_file = log_to(option.deliveries);
    prctl(PR_SET_TIMERSLACK, 1000UL); /* ns: the pacing is as exact as the machine allows */
    make_processor();
    open_port();
    say("port %s", port);
    while (option.hold && !quit) {
        const char *command = listen(-1, false);
        if (command && !strcmp(command, "go"))
            break;
    }
    clock_gettime(CLOCK_MONOTONIC, &wall_start);
    clock_gettime(CLOCK_REALTIME, &now);
    say("start %lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
    start_processor();
    sensor_power(true);
    if (option.poke)
        poke(option.poke);
    run();
    if (plugged)
        deliver();
    keep_truth();
    if ((truth_file && fclose(truth_file)) || (wire_file && fclose(wire_file)) ||
        (deliveries_file && fclose(deliveries_file)))
        die("cannot write the logs: %s", strerror(errno));
    getrusage(RUSAGE_SELF, &usage);
    say("end {\"seconds\": %.6f, \"boots\": %u, \"data_ready\": %llu, \"sent\": %llu, \"delivered\": %llu, "
        "\"dropped\": %llu, \"flipped\": %llu, \"overrun\": %llu, \"received\": %llu, \"processor\": %.3f, "
        "\"worst_lag\": %.6f}",
        true_time(), boot + 1, (unsigned long long)n_ready, (unsigned long long)n_sent,
        (unsigned long long)n_delivered, (unsigned long long)n_dropped, (unsigned long long)n_flipped,
        (unsigned long long)n_overrun, (unsigned long long)n_received,
        (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6 + (double)usage.ru_stime.tv_sec +
            (double)usage.ru_stime.tv_usec * 1e-6,
        worst_lag);
    /* The pty stays until it has been read. */
    while (!quit)
        listen(-1, false);
    if (plugged && option.link)
        unlink(option.link);
    return 0;
}
