// hypnic firmware for Arduino boards with an MPU6050.
//
// Wiring: SDA and SCL to the pins of that name, INT to INT_PIN, VCC and GND. On boards of 3.3 V use 3.3 V.
// PROTOCOL.md describes what it says; hypnic_board.c decides when.

#include <Wire.h>

#include "hypnic_board.h"

#ifdef __AVR__
#include <avr/sleep.h>
#endif

#ifndef INT_PIN
#define INT_PIN 2  // D2: an interrupt pin on the Uno and Nano, and on most boards with more
#endif

// Attributes that a handler needs on this core.
#if defined(ARDUINO_ARCH_ESP32) || defined(ARDUINO_ARCH_ESP8266)
#define IN_INTERRUPT IRAM_ATTR
#else
#define IN_INTERRUPT
#endif

#if defined(ARDUINO_AVR_UNO)
#define BOARD_NAME "uno"
#elif defined(ARDUINO_AVR_NANO)
#define BOARD_NAME "nano"
#else
#define BOARD_NAME "arduino"
#endif

const uint32_t BAUD = 115200;
const uint32_t I2C_HZ = 400000;
const uint32_t TICK_HZ = 1000000;  // of micros(), which wraps at 32 bits on every core

static void IN_INTERRUPT data_ready() {
  hypnic_data_ready(micros());
}

extern "C" uint32_t port_tick() {
  return micros();
}

extern "C" void port_lock() {
  noInterrupts();
}

extern "C" void port_unlock() {
  interrupts();
}

// Bytes are handed to Serial in loop().
extern "C" void port_send() {}

extern "C" bool port_write(uint8_t reg, uint8_t value) {
  Wire.beginTransmission(MPU6050_ADDRESS);
  Wire.write(reg);
  Wire.write(value);
  return Wire.endTransmission() == 0;
}

extern "C" bool port_read(uint8_t reg, uint8_t *to, uint8_t count) {
  Wire.beginTransmission(MPU6050_ADDRESS);
  Wire.write(reg);
  if (Wire.endTransmission(false) != 0) return false;
  if (Wire.requestFrom((uint8_t)MPU6050_ADDRESS, count) != count) return false;
  while (count--) *to++ = (uint8_t)Wire.read();
  return true;
}

// A reset in the middle of a transfer leaves the sensor holding SDA low until it has had its clocks.
static void free_bus() {
  pinMode(SDA, INPUT_PULLUP);
  for (uint8_t i = 0; i < 9; i++) {
    pinMode(SCL, OUTPUT);
    digitalWrite(SCL, LOW);
    delayMicroseconds(5);
    pinMode(SCL, INPUT_PULLUP);
    delayMicroseconds(5);
  }
}

void setup() {
  Serial.begin(BAUD);
  free_bus();
  Wire.begin();
  Wire.setClock(I2C_HZ);
#ifdef WIRE_HAS_TIMEOUT
  Wire.setWireTimeout(3000 /* us */, true /* reset the bus */);
#endif
  pinMode(INT_PIN, INPUT);
  attachInterrupt(digitalPinToInterrupt(INT_PIN), data_ready, RISING);
  delay(MPU6050_START_UP_MS);
  hypnic_begin(BOARD_NAME, 0, TICK_HZ);
}

void loop() {
  uint8_t byte;
  while (Serial.available() > 0 && hypnic_received((uint8_t)Serial.peek())) Serial.read();
  hypnic_poll();
  while (Serial.availableForWrite() > 0 && hypnic_next_byte(&byte)) Serial.write(byte);
#ifdef __AVR__
  // The timer of millis() wakes it at the latest after 1 ms.
  port_lock();
  if (!hypnic_busy()) {
    set_sleep_mode(SLEEP_MODE_IDLE);
    sleep_enable();
    port_unlock();
    sleep_cpu();
    sleep_disable();
  }
  port_unlock();
#endif
}
