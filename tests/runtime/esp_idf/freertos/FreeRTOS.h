// A stand-in of FreeRTOS: a tick is a millisecond.
#define pdMS_TO_TICKS(milliseconds) (milliseconds)
