#include "hypnic_wire.h"

#ifdef __AVR__
#include <util/crc16.h>
#endif

uint16_t hypnic_crc(uint16_t crc, uint8_t byte) {
#ifdef __AVR__
    return _crc_xmodem_update(crc, byte);
#else
    uint8_t bit;
    crc ^= (uint16_t)((uint16_t)byte << 8);
    for (bit = 0; bit < 8; bit++)
        crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    return crc;
#endif
}

uint8_t hypnic_stuff(const uint8_t *bytes, uint8_t length, uint8_t *wire) {
    uint8_t code_at = 0, end = 1, i;
    for (i = 0; i < length; i++) {
        if (bytes[i]) {
            wire[end++] = bytes[i];
        } else {
            wire[code_at] = (uint8_t)(end - code_at);
            code_at = end++;
        }
    }
    wire[code_at] = (uint8_t)(end - code_at);
    wire[end++] = 0;
    return end;
}

uint8_t hypnic_unstuff(uint8_t *bytes, uint8_t length) {
    uint8_t from = 0, to = 0;
    while (from < length) {
        uint8_t code = bytes[from++], i;
        if (!code || code - 1 > length - from)
            return 0;
        for (i = 1; i < code; i++)
            bytes[to++] = bytes[from++];
        if (from < length)
            bytes[to++] = 0;
    }
    return to;
}

static uint8_t *put16(uint8_t *to, uint16_t value) {
    *to++ = (uint8_t)value;
    *to++ = (uint8_t)(value >> 8);
    return to;
}

static uint8_t *put32(uint8_t *to, uint32_t value) {
    return put16(put16(to, (uint16_t)value), (uint16_t)(value >> 16));
}

static uint8_t *put_name(uint8_t *to, const char *name) {
    uint8_t *length = to++;
    while (*name && to - length <= HYPNIC_LONGEST_NAME)
        *to++ = (uint8_t)*name++;
    *length = (uint8_t)(to - length - 1);
    return to;
}

/* Close a body that ends before `end`, which has room for the CRC, and stuff it. */
static uint8_t finish(uint8_t *wire, const uint8_t *body, uint8_t *end) {
    uint16_t crc = 0xFFFF;
    const uint8_t *at;
    for (at = body; at < end; at++)
        crc = hypnic_crc(crc, *at);
    end = put16(end, crc);
    return hypnic_stuff(body, (uint8_t)(end - body), wire);
}

uint8_t hypnic_sample_frame(uint8_t *wire, uint8_t configuration, uint16_t seq, uint32_t tick,
                            const int16_t xyz[3]) {
    uint8_t body[14 + 2], *at = body;
    *at++ = HYPNIC_SAMPLE;
    *at++ = (uint8_t)(configuration << 4);
    at = put32(put16(at, seq), tick);
    at = put16(put16(put16(at, (uint16_t)xyz[0]), (uint16_t)xyz[1]), (uint16_t)xyz[2]);
    return finish(wire, body, at);
}

uint8_t hypnic_info_frame(uint8_t *wire, const hypnic_info *info) {
    uint8_t body[HYPNIC_LONGEST_BODY + 2], *at = body;
    *at++ = HYPNIC_INFO;
    *at++ = info->flags;
    *at++ = HYPNIC_PROTOCOL;
    *at++ = info->range_g;
    at = put32(put16(at, info->firmware), info->uid);
    at = put32(put32(at, info->tick_hz), info->rate_mhz);
    at = put32(put32(at, info->scale_num), info->scale_den);
    at = put16(at, info->lowpass_dhz);
    at = put_name(put_name(at, info->sensor), info->board);
    return finish(wire, body, at);
}

uint8_t hypnic_status_frame(uint8_t *wire, const hypnic_status *status) {
    uint8_t body[24 + 2], *at = body;
    *at++ = HYPNIC_STATUS;
    *at++ = 0;
    at = put32(put16(at, status->rx_bad), status->tick);
    at = put32(put32(at, status->samples), status->i2c_err);
    at = put32(put32(at, status->tx_drop), status->missed);
    return finish(wire, body, at);
}

uint8_t hypnic_ack_frame(uint8_t *wire, uint8_t type, uint8_t token, uint8_t status, uint32_t tick) {
    uint8_t body[8 + 2], *at = body;
    *at++ = HYPNIC_ACK;
    *at++ = type;
    *at++ = token;
    *at++ = status;
    return finish(wire, body, put32(at, tick));
}

/* Length of a command's body; 0 for a type that is none, or that this version does not know. */
static uint8_t length_of(uint8_t type) {
    if (type == HYPNIC_SET_RATE)
        return 6;
    if (type == HYPNIC_SET_RANGE)
        return 3;
    return type >= HYPNIC_PING && type <= HYPNIC_STOP ? 2 : 0;
}

/* Read the frame in `part`, its code byte first and without its 00. */
static bool parse(hypnic_receiver *receiver, hypnic_command *command) {
    uint8_t *body = receiver->part;
    uint8_t length = hypnic_unstuff(body, receiver->length), i;
    uint16_t crc = 0xFFFF;
    bool known;
    if (length < 3) {
        receiver->bad++;
        return false;
    }
    length = (uint8_t)(length - 2);
    for (i = 0; i < length; i++)
        crc = hypnic_crc(crc, body[i]);
    known = length_of(body[0]) != 0;
    if (body[length] != (uint8_t)crc || body[length + 1] != (uint8_t)(crc >> 8) ||
        (known && length != length_of(body[0]))) {
        receiver->bad++;
        return false;
    }
    /* A type that goes the other way is no command and no mistake; one without a token has no answer. */
    if (body[0] < HYPNIC_PING || body[0] > HYPNIC_LAST_COMMAND || length < 2)
        return false;
    command->type = body[0];
    command->token = body[1];
    command->value = 0;
    for (i = length; known && i > 2; i--)
        command->value = command->value << 8 | body[i - 1];
    return true;
}

bool hypnic_receive(hypnic_receiver *receiver, uint8_t byte, hypnic_command *command) {
    bool complete = false;
    if (byte) {
        if (receiver->length < HYPNIC_LONGEST_RECEIVED)
            receiver->part[receiver->length++] = byte;
        else
            receiver->too_long = true;
        return false;
    }
    if (receiver->too_long)
        receiver->bad++;
    else if (receiver->length)
        complete = parse(receiver, command);
    receiver->length = 0;
    receiver->too_long = false;
    return complete;
}
