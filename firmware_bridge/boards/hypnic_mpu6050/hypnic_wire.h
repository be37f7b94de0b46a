/* Frames of PROTOCOL.md: COBS, CRC, and the bodies that a board sends and receives.
 *
 * Portable C99 that needs no library and no memory but the caller's.
 */
#ifndef HYPNIC_WIRE_H
#define HYPNIC_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { HYPNIC_PROTOCOL = 1 };

/* Types of frames. */
enum {
    HYPNIC_SAMPLE = 0x01,
    HYPNIC_INFO = 0x02,
    HYPNIC_STATUS = 0x03,
    HYPNIC_ACK = 0x04,
    HYPNIC_PING = 0x10,
    HYPNIC_GET_INFO = 0x11,
    HYPNIC_START = 0x12,
    HYPNIC_STOP = 0x13,
    HYPNIC_SET_RATE = 0x14,
    HYPNIC_SET_RANGE = 0x15,
    HYPNIC_LAST_COMMAND = 0x1F
};

/* Flags of INFO; the configuration number stands in bits 7 to 4 of INFO and SAMPLE. */
enum { HYPNIC_BOOT = 1, HYPNIC_SAMPLING = 2 };

/* Answers. */
enum { HYPNIC_DONE = 0, HYPNIC_UNKNOWN = 1, HYPNIC_NOT_POSSIBLE = 2, HYPNIC_NO_SENSOR = 3 };

/* Lengths in bytes. */
enum {
    HYPNIC_LONGEST_NAME = 24,
    HYPNIC_LONGEST_BODY = 30 + 2 * HYPNIC_LONGEST_NAME,
    HYPNIC_LONGEST_WIRE = HYPNIC_LONGEST_BODY + 4, /* CRC, the code byte of COBS, 00 */
    HYPNIC_LONGEST_RECEIVED = 128
};

typedef struct {
    uint8_t flags, range_g;
    uint16_t firmware, lowpass_dhz;
    uint32_t uid, tick_hz, rate_mhz, scale_num, scale_den;
    const char *sensor, *board;
} hypnic_info;

typedef struct {
    uint16_t rx_bad;
    uint32_t tick, samples, i2c_err, tx_drop, missed;
} hypnic_status;

typedef struct {
    uint8_t type, token;
    uint32_t value; /* mHz or g; 0 for commands without an argument */
} hypnic_command;

/* What is being received from the host. `bad` counts dropped frames and wraps. */
typedef struct {
    uint8_t part[HYPNIC_LONGEST_RECEIVED];
    uint8_t length;
    bool too_long;
    uint16_t bad;
} hypnic_receiver;

/* Go on with the CRC-16/CCITT-FALSE of a byte; it starts from FFFF. */
uint16_t hypnic_crc(uint16_t crc, uint8_t byte);

/* COBS of at most 253 bytes: return the length of what stands in `wire`, its 00 included. */
uint8_t hypnic_stuff(const uint8_t *bytes, uint8_t length, uint8_t *wire);

/* Undo COBS in place, of at most 254 bytes without the 00: return the new length, 0 where it is not COBS. */
uint8_t hypnic_unstuff(uint8_t *bytes, uint8_t length);

/* Each writes a whole frame, its 00 included, to `wire` and returns its length. */
uint8_t hypnic_sample_frame(uint8_t *wire, uint8_t configuration, uint16_t seq, uint32_t tick,
                            const int16_t xyz[3]);
uint8_t hypnic_info_frame(uint8_t *wire, const hypnic_info *info);
uint8_t hypnic_status_frame(uint8_t *wire, const hypnic_status *status);
uint8_t hypnic_ack_frame(uint8_t *wire, uint8_t type, uint8_t token, uint8_t status, uint32_t tick);

/* Take a byte from the host: true where it completes a command, known or not. */
bool hypnic_receive(hypnic_receiver *receiver, uint8_t byte, hypnic_command *command);

#ifdef __cplusplus
}
#endif

#endif
