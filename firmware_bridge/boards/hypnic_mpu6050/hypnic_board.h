/* The board's side of PROTOCOL.md with an MPU6050: what is sent when, and what is counted.
 *
 * The rules are here once; a board's own file brings an interrupt, a bus, a UART and a clock. It calls
 *   hypnic_begin       once,
 *   hypnic_data_ready  in the interrupt of the sensor's INT pin,
 *   hypnic_received    with each byte from the host, where hypnic_poll runs,
 *   hypnic_poll        again and again,
 *   hypnic_next_byte   for each byte to the host, there or in an interrupt,
 * and supplies the functions that start with port_.
 */
#ifndef HYPNIC_BOARD_H
#define HYPNIC_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MPU6050_ADDRESS = 0x68,    /* with AD0 low */
    MPU6050_START_UP_MS = 100, /* until its registers can be reached after power-on (data sheet, largest) */
    HYPNIC_FIRMWARE = 1 << 8   /* version, major * 256 + minor */
};

/* Begin: `board` is at most 24 characters long, `uid` 0 where the chip has no number of its own. The sensor has
 * had MPU6050_START_UP_MS. */
void hypnic_begin(const char *board, uint32_t uid, uint32_t tick_hz);

/* A sample is ready since `tick`. May interrupt everything but itself and port_lock. */
void hypnic_data_ready(uint32_t tick);

/* A byte has come from the host: false where there is no room for it, and it is lost. */
bool hypnic_received(uint8_t byte);

/* Do what there is to do; takes as long as one transfer from the sensor. */
void hypnic_poll(void);

/* Take a byte that is to be sent: false where there is none. */
bool hypnic_next_byte(uint8_t *byte);

/* Tell whether hypnic_poll has something to do at once; asked with port_lock held, before sleeping. */
bool hypnic_busy(void);

/* What a board supplies. */

/* The time in ticks, modulo 2^32. */
uint32_t port_tick(void);

/* Keep hypnic_data_ready and hypnic_next_byte away, and let them come again. */
void port_lock(void);
void port_unlock(void);

/* There is something for hypnic_next_byte to take. */
void port_send(void);

/* Write or read registers of the sensor; false where it does not answer. Neither may wait for ever. */
bool port_write(uint8_t reg, uint8_t value);
bool port_read(uint8_t reg, uint8_t *to, uint8_t count);

#ifdef __cplusplus
}
#endif

#endif
