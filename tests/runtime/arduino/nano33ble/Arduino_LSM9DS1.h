// The library of the Nano 33 BLE Sense's motion sensor, declared only.
#ifndef ARDUINO_LSM9DS1_H_
#define ARDUINO_LSM9DS1_H_

class LSM9DS1Class {
 public:
  int begin();
  int accelerationAvailable();
  int gyroscopeAvailable();
  int readAcceleration(float& x, float& y, float& z);
  int readGyroscope(float& x, float& y, float& z);
};
extern LSM9DS1Class IMU;

#endif  // ARDUINO_LSM9DS1_H_
