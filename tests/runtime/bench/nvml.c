/* NVIDIA's management library as far as runtime/bench/nvml.py asks pynvml for it: one GPU, energy that grows with every question. */
#include <string.h>

typedef void *device_t;
typedef struct { unsigned long long total, free, used; } memory_t;

int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device) { *device = (device_t)7; return index != 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "570.1", size); return 0; }
int nvmlDeviceGetName(device_t device, char *text, unsigned size) { strncpy(text, "Example GPU", size); return 0; }
int nvmlDeviceGetTotalEnergyConsumption(device_t device, unsigned long long *energy) {
    static unsigned long long now = 1000;
    *energy = now += 500;
    return device != (device_t)7;
}
int nvmlDeviceGetMemoryInfo(device_t device, memory_t *memory) {
    memory->total = 8000000000ull; memory->free = 7000000000ull; memory->used = 1000000000ull;
    return 0;
}
int nvmlDeviceGetPowerUsage(device_t device, unsigned *milliwatts) { return 3; /* not supported */ }
int nvmlDeviceGetClockInfo(device_t device, unsigned kind, unsigned *mhz) { *mhz = kind == 1 ? 1800 : 9000; return 0; }
int nvmlDeviceGetTemperature(device_t device, unsigned sensor, unsigned *celsius) { *celsius = 41; return sensor != 0; }
