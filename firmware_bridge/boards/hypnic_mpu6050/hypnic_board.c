#include "hypnic_board.h"

#include "hypnic_wire.h"

/* Registers and bits: MPU-6000/MPU-6050 register map, RM-MPU-6000A. */
enum {
    SMPLRT_DIV = 0x19,
    CONFIG = 0x1A,
    ACCEL_CONFIG = 0x1C,
    ACCEL_CONFIG_2 = 0x1D, /* MPU6500 and later: the low-pass of the accelerometer alone */
    INT_PIN_CFG = 0x37,
    INT_ENABLE = 0x38,
    ACCEL_XOUT_H = 0x3B,
    PWR_MGMT_1 = 0x6B,
    WHO_AM_I = 0x75,
    DATA_READY = 0x01,
    CLOCK_OF_GYRO = 0x01 /* steadier than the chip's own oscillator */
};

/* Settings at power-on. 4 g holds a strong jerk on top of gravity; its step, 0.12 mg, lies far under the noise. */
enum { FIRST_PERIOD_MS = 10, FIRST_RANGE_G = 4 };

/* Rates are 1 kHz over 1 to 256; 115200 baud carries about 640 samples a second. */
enum { SHORTEST_PERIOD_MS = 2, LONGEST_PERIOD_MS = 256 };

enum { SENT = 256, RECEIVED = 64 };
enum { INFO_EVERY_S = 5, SILENT_AFTER_S = 1, RETRY_AFTER_S = 1 };

typedef struct {
    uint16_t period_ms;
    uint8_t range_code; /* full scale is 2 << range_code g */
} settings;

typedef struct {
    uint8_t id;
    const char *name;
} part;

/* Later parts answer the same registers; they are often sold as an MPU6050. */
static const part parts[] = {{0x68, "MPU6050"}, {0x70, "MPU6500"}, {0x71, "MPU9250"}, {0x73, "MPU9255"}};

/* Low-pass of the accelerometer by CONFIG (and ACCEL_CONFIG_2) 1 to 6, in 0.1 Hz. */
static const uint16_t lowpass_dhz[] = {1840, 940, 440, 210, 100, 50};

static const char *board_name, *sensor_name = "";
static uint32_t board_uid, ticks_per_s;

/* Rings of one writer and one reader; their indices wrap by themselves or by a mask. */
static volatile uint8_t sent[SENT], sent_head, sent_tail;
static volatile uint8_t received[RECEIVED], received_head, received_tail;

/* Written in the data-ready interrupt. */
static volatile uint32_t samples, missed, ready_tick;
static volatile bool unread;

static uint32_t i2c_err, tx_drop;
static settings now_set;
static uint8_t configuration;
static bool wanted, running;
static uint32_t tried_tick, info_tick;
static bool boot, info_due, status_due, change_told;
static hypnic_receiver receiver;
static hypnic_command answered;
static uint8_t answer_status;
static uint32_t answer_tick;
static bool answer_due;

/* Put a whole frame into the ring, or nothing. */
static bool send(const uint8_t *wire, uint8_t length) {
    uint8_t head = sent_head, i;
    if (length > (uint8_t)(sent_tail - head - 1))
        return false;
    for (i = 0; i < length; i++)
        sent[head++] = wire[i];
    sent_head = head;
    port_send();
    return true;
}

bool hypnic_next_byte(uint8_t *byte) {
    uint8_t tail = sent_tail;
    if (tail == sent_head)
        return false;
    *byte = sent[tail++];
    sent_tail = tail;
    return true;
}

bool hypnic_received(uint8_t byte) {
    uint8_t head = received_head;
    if ((uint8_t)(head - received_tail) >= RECEIVED)
        return false;
    received[head % RECEIVED] = byte;
    received_head = (uint8_t)(head + 1);
    return true;
}

void hypnic_data_ready(uint32_t tick) {
    if (unread)
        missed++;
    samples++;
    ready_tick = tick;
    unread = true;
}

bool hypnic_busy(void) {
    return unread || received_head != received_tail;
}

static uint32_t rate_mhz(settings set) {
    return 1000000 / set.period_ms;
}

static uint8_t lowpass_code(settings set) {
    uint8_t code = 1;
    /* The widest below half the rate; a slower rate than twice the narrowest has that. */
    while (code < 6 && (uint32_t)lowpass_dhz[code - 1] * 200 > rate_mhz(set))
        code++;
    return code;
}

static bool configure(uint8_t reg, uint8_t value) {
    if (port_write(reg, value))
        return true;
    i2c_err++;
    return false;
}

/* Let no more data-readies come; one that came is missed. */
static bool halt(void) {
    bool answers = configure(INT_ENABLE, 0);
    port_lock();
    if (unread)
        missed++;
    unread = false;
    port_unlock();
    return answers;
}

/* Set the sensor up and let data-readies come if they are wanted; false where it does not answer. */
static bool start(settings set) {
    uint8_t id, i;
    running = false;
    tried_tick = port_tick();
    if (!port_read(WHO_AM_I, &id, 1)) {
        i2c_err++;
        return false;
    }
    for (i = 0; i < sizeof parts / sizeof *parts && parts[i].id != id; i++)
        ;
    if (i == sizeof parts / sizeof *parts)
        return false;
    if (!configure(PWR_MGMT_1, CLOCK_OF_GYRO) || !halt() || !configure(CONFIG, lowpass_code(set)) ||
        (i > 0 && !configure(ACCEL_CONFIG_2, lowpass_code(set))) ||
        !configure(SMPLRT_DIV, (uint8_t)(set.period_ms - 1)) ||
        !configure(ACCEL_CONFIG, (uint8_t)(set.range_code << 3)) || !configure(INT_PIN_CFG, 0))
        return false;
    sensor_name = parts[i].name;
    if (set.period_ms != now_set.period_ms || set.range_code != now_set.range_code) {
        configuration = (uint8_t)((configuration + 1) & 15);
        change_told = false;
    }
    now_set = set;
    port_lock();
    ready_tick = port_tick();
    port_unlock();
    if (wanted && !configure(INT_ENABLE, DATA_READY))
        return false;
    running = wanted;
    return true;
}

/* Find the possible rate nearest to the one asked for; false where it is not within 10 % of that. */
static bool set_rate(settings *set, uint32_t asked_mhz) {
    uint32_t period = LONGEST_PERIOD_MS, rate, off;
    if (asked_mhz > 1000000 / LONGEST_PERIOD_MS)
        period = 1000000 / asked_mhz;
    if (period < SHORTEST_PERIOD_MS)
        period = SHORTEST_PERIOD_MS;
    else if (asked_mhz < 1000000 / period && 1000000 / period - asked_mhz > asked_mhz - 1000000 / (period + 1))
        period++;
    rate = 1000000 / period;
    off = rate > asked_mhz ? rate - asked_mhz : asked_mhz - rate;
    set->period_ms = (uint16_t)period;
    return off <= asked_mhz / 10;
}

static bool set_range(settings *set, uint32_t asked_g) {
    for (set->range_code = 0; set->range_code < 4; set->range_code++)
        if (asked_g == 2u << set->range_code)
            return true;
    return false;
}

static uint8_t obey(const hypnic_command *command) {
    settings set = now_set;
    bool was_wanted = wanted;
    switch (command->type) {
    case HYPNIC_PING:
        return HYPNIC_DONE;
    case HYPNIC_GET_INFO:
        info_due = true;
        return HYPNIC_DONE;
    case HYPNIC_START:
        wanted = true;
        break;
    case HYPNIC_STOP:
        wanted = false;
        break;
    case HYPNIC_SET_RATE:
        if (!set_rate(&set, command->value))
            return HYPNIC_NOT_POSSIBLE;
        break;
    case HYPNIC_SET_RANGE:
        if (!set_range(&set, command->value))
            return HYPNIC_NOT_POSSIBLE;
        break;
    default:
        return HYPNIC_UNKNOWN;
    }
    /* What is so already needs no change, if the sensor is there to be so. */
    if ((running != wanted || was_wanted != wanted || set.period_ms != now_set.period_ms ||
         set.range_code != now_set.range_code) &&
        !start(set))
        return HYPNIC_NO_SENSOR;
    info_due = true;
    return HYPNIC_DONE;
}

static bool send_info(void) {
    uint8_t wire[HYPNIC_LONGEST_WIRE];
    hypnic_info info;
    info.flags = (uint8_t)((boot ? HYPNIC_BOOT : 0) | (running ? HYPNIC_SAMPLING : 0) | configuration << 4);
    info.range_g = (uint8_t)(2 << now_set.range_code);
    info.firmware = HYPNIC_FIRMWARE;
    info.uid = board_uid;
    info.tick_hz = ticks_per_s;
    info.rate_mhz = rate_mhz(now_set);
    info.scale_num = 1;
    info.scale_den = 16384 >> now_set.range_code;
    info.lowpass_dhz = lowpass_dhz[lowpass_code(now_set) - 1];
    info.sensor = sensor_name;
    info.board = board_name;
    if (!send(wire, hypnic_info_frame(wire, &info)))
        return false;
    info_tick = port_tick();
    status_due = !boot;
    info_due = boot = false;
    change_told = true;
    return true;
}

static bool send_status(void) {
    uint8_t wire[HYPNIC_LONGEST_WIRE];
    hypnic_status status;
    port_lock();
    /* A sample that is still to be read is still to be counted. */
    status.samples = samples - unread;
    status.missed = missed;
    port_unlock();
    status.rx_bad = receiver.bad;
    status.tick = port_tick();
    status.i2c_err = i2c_err;
    status.tx_drop = tx_drop;
    if (!send(wire, hypnic_status_frame(wire, &status)))
        return false;
    status_due = false;
    return true;
}

static bool send_answer(void) {
    uint8_t wire[HYPNIC_LONGEST_WIRE];
    if (!send(wire, hypnic_ack_frame(wire, answered.type, answered.token, answer_status, answer_tick)))
        return false;
    answer_due = false;
    return true;
}

/* Send what waits, in its order, and obey the next command only when all has found room. */
static void answer(void) {
    for (;;) {
        if ((answer_due && !send_answer()) || (info_due && !send_info()) || (status_due && !send_status()))
            return;
        do {
            uint8_t tail = received_tail, byte;
            if (tail == received_head)
                return;
            byte = received[tail % RECEIVED];
            received_tail = (uint8_t)(tail + 1);
            answer_due = hypnic_receive(&receiver, byte, &answered);
        } while (!answer_due);
        answer_status = obey(&answered);
        answer_tick = port_tick();
    }
}

static void take_sample(void) {
    uint8_t raw[6], wire[HYPNIC_LONGEST_WIRE], i;
    int16_t xyz[3];
    uint32_t number, tick;
    bool there, answers, usable;
    port_lock();
    there = unread;
    number = samples - 1;
    tick = ready_tick;
    unread = false;
    port_unlock();
    if (!there)
        return;
    answers = port_read(ACCEL_XOUT_H, raw, sizeof raw);
    port_lock();
    /* With another data-ready meanwhile, nobody can tell which of the two was read; and a sensor that has not
     * been set up may be at another scale. */
    usable = answers && running && samples == number + 1;
    if (!usable)
        missed++;
    port_unlock();
    if (!answers)
        i2c_err++;
    if (!usable)
        return;
    for (i = 0; i < 3; i++)
        xyz[i] = (int16_t)((uint16_t)raw[2 * i] << 8 | raw[2 * i + 1]);
    if (!change_told || !send(wire, hypnic_sample_frame(wire, configuration, (uint16_t)number, tick, xyz)))
        tx_drop++;
}

/* A sensor that has fallen silent has lost its power or its wires: try to set it up again. */
static void watch_sensor(void) {
    uint32_t since;
    if (!wanted)
        return;
    port_lock();
    since = port_tick() - ready_tick;
    port_unlock();
    if (running && since > SILENT_AFTER_S * ticks_per_s) {
        running = false;
        info_due = true;
        tried_tick = port_tick() - RETRY_AFTER_S * ticks_per_s;
    }
    if (!running && port_tick() - tried_tick >= RETRY_AFTER_S * ticks_per_s && start(now_set))
        info_due = true;
}

void hypnic_begin(const char *board, uint32_t uid, uint32_t tick_hz) {
    static const uint8_t end_of_what_was_before = 0;
    board_name = board;
    board_uid = uid;
    ticks_per_s = tick_hz;
    now_set.period_ms = FIRST_PERIOD_MS;
    set_range(&now_set, FIRST_RANGE_G);
    wanted = boot = true;
    send(&end_of_what_was_before, 1);
    start(now_set);
    send_info();
}

void hypnic_poll(void) {
    if (port_tick() - info_tick >= INFO_EVERY_S * ticks_per_s)
        info_due = true;
    answer();
    take_sample();
    watch_sensor();
}
