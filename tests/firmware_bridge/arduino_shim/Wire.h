#include "Arduino.h"

struct TwoWire : Stream {
  void begin();
  void setClock(uint32_t);
  void beginTransmission(uint8_t);
  uint8_t endTransmission(bool stop = true);
  size_t requestFrom(uint8_t address, size_t count, bool stop = true);
};
extern TwoWire Wire;
