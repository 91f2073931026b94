// A bundle's project for ESP-IDF as a program of this machine.
extern "C" void app_main();

int main() { app_main(); }
