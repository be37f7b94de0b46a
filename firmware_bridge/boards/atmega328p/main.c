/* hypnic firmware for an ATmega328P (Arduino Uno, Nano, Pro Mini) with an MPU6050, without the Arduino core.
 *
 * Wiring: SDA to A4 (PC4), SCL to A5 (PC5), INT to D2 (PD2), VCC and GND; the UART is that of the USB bridge.
 * Timer 1 counts F_CPU / 64 and gives ticks of 4 us at 16 MHz, stamped in the interrupt of INT.
 */
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include <util/atomic.h>
#include <util/delay.h>
#include <util/twi.h>

#include "hypnic_board.h"

#define BAUD 115200
#define BAUD_TOL 3 /* 2.1 % off at 16 MHz, as every Uno is */
#include <util/setbaud.h>

#define TICK_HZ (F_CPU / 64)
#define I2C_HZ 400000UL

/* Longest wait for one step on the bus, in rounds of some 8 cycles: 1 ms, 40 times as long as a byte takes. */
#define I2C_ROUNDS (F_CPU / 8000)

static volatile uint16_t tick_high;

/* The ticks; interrupts are off. */
static uint32_t tick_now(void) {
    uint16_t low = TCNT1, high = tick_high;
    /* The counter has wrapped and its interrupt still waits. */
    if ((TIFR1 & _BV(TOV1)) && low < 0x8000)
        high++;
    return (uint32_t)high << 16 | low;
}

ISR(TIMER1_OVF_vect) {
    tick_high++;
}

ISR(INT0_vect) {
    hypnic_data_ready(tick_now());
}

ISR(USART_UDRE_vect) {
    uint8_t byte;
    if (hypnic_next_byte(&byte))
        UDR0 = byte;
    else
        UCSR0B &= (uint8_t)~_BV(UDRIE0);
}

ISR(USART_RX_vect) {
    /* A byte without room is lost; then its frame fails its CRC and is counted. */
    hypnic_received(UDR0);
}

uint32_t port_tick(void) {
    uint32_t tick;
    ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
        tick = tick_now();
    }
    return tick;
}

void port_lock(void) {
    cli();
}

void port_unlock(void) {
    sei();
}

void port_send(void) {
    ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
        UCSR0B |= _BV(UDRIE0);
    }
}

/* Do one step on the bus and tell whether it ended in `status`. */
static bool step(uint8_t control, uint8_t status) {
    uint16_t rounds = I2C_ROUNDS;
    TWCR = _BV(TWINT) | _BV(TWEN) | control;
    while (!(TWCR & _BV(TWINT)))
        if (!--rounds)
            return false;
    return TW_STATUS == status;
}

static bool put(uint8_t byte, uint8_t status) {
    TWDR = byte;
    return step(0, status);
}

static bool open_bus(uint8_t reg) {
    return step(_BV(TWSTA), TW_START) && put(MPU6050_ADDRESS << 1 | TW_WRITE, TW_MT_SLA_ACK) &&
           put(reg, TW_MT_DATA_ACK);
}

/* A reset or a fault in the middle of a transfer leaves the sensor holding SDA low until it has had its clocks. */
static void free_bus(void) {
    uint8_t i;
    TWCR = 0;
    for (i = 0; i < 9; i++) {
        PORTC &= (uint8_t)~_BV(PC5);
        DDRC |= _BV(PC5);
        _delay_us(5);
        DDRC &= (uint8_t)~_BV(PC5);
        PORTC |= _BV(PC5);
        _delay_us(5);
    }
}

static bool close_bus(bool done) {
    uint16_t rounds = I2C_ROUNDS;
    TWCR = _BV(TWINT) | _BV(TWEN) | _BV(TWSTO);
    while ((TWCR & _BV(TWSTO)) && --rounds)
        ;
    if (!done)
        free_bus();
    return done;
}

bool port_write(uint8_t reg, uint8_t value) {
    return close_bus(open_bus(reg) && put(value, TW_MT_DATA_ACK));
}

bool port_read(uint8_t reg, uint8_t *to, uint8_t count) {
    bool done = open_bus(reg) && step(_BV(TWSTA), TW_REP_START) &&
                put(MPU6050_ADDRESS << 1 | TW_READ, TW_MR_SLA_ACK);
    while (done && count--) {
        done = count ? step(_BV(TWEA), TW_MR_DATA_ACK) : step(0, TW_MR_DATA_NACK);
        *to++ = TWDR;
    }
    return close_bus(done);
}

int main(void) {
    UCSR0A = USE_2X ? _BV(U2X0) : 0;
    UBRR0 = UBRR_VALUE;
    UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
    UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);

    PORTC |= _BV(PC4) | _BV(PC5); /* the module has its own pull-ups; these help a bare sensor */
    free_bus();
    TWSR = 0;
    TWBR = (F_CPU / I2C_HZ - 16) / 2;

    TCCR1B = _BV(CS11) | _BV(CS10);
    TIMSK1 = _BV(TOIE1);
    EICRA = _BV(ISC01) | _BV(ISC00); /* INT rises */
    EIFR = _BV(INTF0);
    EIMSK = _BV(INT0);
    set_sleep_mode(SLEEP_MODE_IDLE);
    sei();

    _delay_ms(MPU6050_START_UP_MS);
    hypnic_begin("atmega328p", 0, TICK_HZ);
    for (;;) {
        hypnic_poll();
        cli();
        if (!hypnic_busy()) {
            /* The instruction after sei still runs before any interrupt: none can slip in between. */
            sleep_enable();
            sei();
            sleep_cpu();
            sleep_disable();
        }
        sei();
    }
}
