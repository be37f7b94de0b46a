#ifndef ARDUINO_SHIM_H
#define ARDUINO_SHIM_H
// What the sketch needs of a 32-bit Arduino core, declared and no more: to compile it, not to run it.
#include <stddef.h>
#include <stdint.h>

enum { LOW, HIGH };
enum { INPUT, OUTPUT, INPUT_PULLUP };
enum { RISING = 3 };
static const uint8_t SDA = 20, SCL = 21;

unsigned long micros();
void delay(unsigned long);
void delayMicroseconds(unsigned int);
void pinMode(uint8_t, uint8_t);
void digitalWrite(uint8_t, uint8_t);
void attachInterrupt(uint8_t, void (*)(), int);
void interrupts();
void noInterrupts();
#define digitalPinToInterrupt(pin) (pin)

struct Stream {
  void begin(unsigned long);
  int available();
  int availableForWrite();
  int peek();
  int read();
  size_t write(uint8_t);
};
extern Stream Serial;

#endif
