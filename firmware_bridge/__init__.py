"""Both ends of the wire between an IMU board and hypnic."""
