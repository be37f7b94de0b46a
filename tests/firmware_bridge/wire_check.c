/* Do with the portable C what each line of the input says, and print the result: test_vectors_c.py compares. */
#include "hypnic_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t bytes[4096];
static char hex[8192];
static char sensor[64], board[64];

static unsigned read_hex(void) {
    unsigned count = 0, value;
    const char *at;
    for (at = hex; sscanf(at, "%2x", &value) == 1; at += 2)
        bytes[count++] = (uint8_t)value;
    return count;
}

static void print_hex(const uint8_t *from, unsigned count) {
    unsigned i;
    for (i = 0; i < count; i++)
        printf("%02x", from[i]);
    putchar('\n');
}

int main(void) {
    char word[16];
    while (scanf("%15s", word) == 1) {
        uint8_t wire[HYPNIC_LONGEST_WIRE + 256];
        if (!strcmp(word, "crc") && scanf("%8191s", hex) == 1) {
            uint16_t crc = 0xFFFF;
            unsigned count = read_hex(), i;
            for (i = 0; i < count; i++)
                crc = hypnic_crc(crc, bytes[i]);
            printf("%u\n", (unsigned)crc);
        } else if (!strcmp(word, "stuff") && scanf("%8191s", hex) == 1) {
            unsigned count = read_hex();
            print_hex(wire, hypnic_stuff(bytes, (uint8_t)count, wire));
        } else if (!strcmp(word, "unstuff") && scanf("%8191s", hex) == 1) {
            unsigned count = read_hex();
            print_hex(bytes, hypnic_unstuff(bytes, (uint8_t)count));
        } else if (!strcmp(word, "SAMPLE")) {
            unsigned flags, seq;
            unsigned long tick;
            int x, y, z;
            int16_t xyz[3];
            if (scanf("%u %u %lu %d %d %d", &flags, &seq, &tick, &x, &y, &z) != 6)
                return 1;
            xyz[0] = (int16_t)x, xyz[1] = (int16_t)y, xyz[2] = (int16_t)z;
            print_hex(wire, hypnic_sample_frame(wire, (uint8_t)(flags >> 4), (uint16_t)seq, (uint32_t)tick, xyz));
        } else if (!strcmp(word, "INFO")) {
            unsigned flags, range, firmware, lowpass;
            unsigned long uid, tick_hz, rate, numerator, denominator;
            hypnic_info info;
            if (scanf("%u %u %u %u %lu %lu %lu %lu %lu %63s %63s", &flags, &range, &firmware, &lowpass, &uid,
                      &tick_hz, &rate, &numerator, &denominator, sensor, board) != 11)
                return 1;
            info.flags = (uint8_t)flags;
            info.range_g = (uint8_t)range;
            info.firmware = (uint16_t)firmware;
            info.lowpass_dhz = (uint16_t)lowpass;
            info.uid = (uint32_t)uid;
            info.tick_hz = (uint32_t)tick_hz;
            info.rate_mhz = (uint32_t)rate;
            info.scale_num = (uint32_t)numerator;
            info.scale_den = (uint32_t)denominator;
            /* An underscore stands before each name, so that an empty one is a word too. */
            info.sensor = sensor + 1;
            info.board = board + 1;
            print_hex(wire, hypnic_info_frame(wire, &info));
        } else if (!strcmp(word, "STATUS")) {
            unsigned bad;
            unsigned long tick, samples, i2c_err, tx_drop, missed;
            hypnic_status status;
            if (scanf("%u %lu %lu %lu %lu %lu", &bad, &tick, &samples, &i2c_err, &tx_drop, &missed) != 6)
                return 1;
            status.rx_bad = (uint16_t)bad;
            status.tick = (uint32_t)tick;
            status.samples = (uint32_t)samples;
            status.i2c_err = (uint32_t)i2c_err;
            status.tx_drop = (uint32_t)tx_drop;
            status.missed = (uint32_t)missed;
            print_hex(wire, hypnic_status_frame(wire, &status));
        } else if (!strcmp(word, "ACK")) {
            unsigned cmd, token, status;
            unsigned long tick;
            if (scanf("%u %u %u %lu", &cmd, &token, &status, &tick) != 4)
                return 1;
            print_hex(wire, hypnic_ack_frame(wire, (uint8_t)cmd, (uint8_t)token, (uint8_t)status, (uint32_t)tick));
        } else if (!strcmp(word, "receive") && scanf("%8191s", hex) == 1) {
            hypnic_receiver receiver = {0};
            unsigned count = read_hex(), i;
            for (i = 0; i < count; i++) {
                hypnic_command command;
                if (hypnic_receive(&receiver, bytes[i], &command))
                    printf("%u %u %lu ", (unsigned)command.type, (unsigned)command.token,
                           (unsigned long)command.value);
            }
            printf("bad %u\n", (unsigned)receiver.bad);
        } else {
            return 1;
        }
    }
    return 0;
}
