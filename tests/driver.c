/* The NVIDIA driver's library as far as it is asked for a device; it answers as the environment tells it to. */
#include <stdlib.h>
#include <string.h>
static int told(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}
int cuInit(unsigned flags) { return told("TOLD_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = told("TOLD_VERSION", 99000); return 0; }
int cuDeviceGetCount(int *count) { *count = told("TOLD_COUNT", 1); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : told("TOLD_MINOR", 7); return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Orin", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 8000000000; return 0; }
int cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long flags, int *status);
static const struct { const char *name; void *function; } known[] = {
    {"cuInit", cuInit}, {"cuDriverGetVersion", cuDriverGetVersion}, {"cuDeviceGetCount", cuDeviceGetCount},
    {"cuDeviceGet", cuDeviceGet}, {"cuDeviceGetAttribute", cuDeviceGetAttribute}, {"cuDeviceGetName", cuDeviceGetName},
    {"cuDeviceTotalMem", cuDeviceTotalMem_v2}, {"cuGetProcAddress", cuGetProcAddress_v2},
};
int cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long flags, int *status) {
    *function = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(symbol, known[i].name)) *function = known[i].function;
    if (status) *status = *function ? 0 : 1;
    return *function ? 0 : 500;
}
