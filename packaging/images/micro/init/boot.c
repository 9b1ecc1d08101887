// What an init system would have done: file systems, modules, identity, power.
#define _GNU_SOURCE
#include "micro.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int console = -1;

int64_t now_millis(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void say(const char *format, ...)
{
    char text[256];
    int64_t now = now_millis();
    int prefix = snprintf(text, sizeof text, "micro %lld.%03lld: ", (long long)now / 1000,
                          (long long)now % 1000);
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(text + prefix, sizeof text - prefix - 1, format, arguments);
    va_end(arguments);
    if (bytes > (int)sizeof text - prefix - 2)
        bytes = (int)sizeof text - prefix - 2;
    memcpy(text + prefix + bytes, "\n", 1);
    if (console < 0)
        console = open("/dev/console", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    // A full console loses the line, which is better than a guest that waits for its reader.
    ssize_t written = write(console, text, prefix + bytes + 1);
    (void)written;
}

static void mount_one(const char *type, const char *where)
{
    mkdir(where, 0755);
    // The kernel may have mounted /dev itself.
    if (mount(type, where, type, MS_NOSUID, NULL) < 0 && errno != EBUSY)
        say("cannot mount %s: %s", where, strerror(errno));
}

void mount_file_systems(void)
{
    mount_one("devtmpfs", "/dev");
    mount_one("proc", "/proc");
    mount_one("sysfs", "/sys");
}

static void load_module(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "/modules/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        say("cannot load %s: %s", name, strerror(errno));
    if (fd >= 0)
        close(fd);
}

void load_modules(void)
{
    FILE *order = fopen("/modules/order", "re");
    if (order == NULL) {
        say("no /modules/order: only built-in drivers");
        return;
    }
    char name[96];
    while (fgets(name, sizeof name, order) != NULL) {
        name[strcspn(name, "\n")] = '\0';
        if (name[0] != '\0')
            load_module(name);
    }
    fclose(order);
}

void read_identity(char identity[37])
{
    strcpy(identity, "00000000-0000-0000-0000-000000000000");
    char text[64] = "";
    FILE *file = fopen("/sys/class/dmi/id/product_uuid", "re");
    if (file == NULL || fgets(text, sizeof text, file) == NULL || strlen(text) < 36)
        say("no machine UUID in DMI");
    else
        for (int i = 0; i < 36; i++)
            identity[i] = (char)tolower((unsigned char)text[i]);
    if (file != NULL)
        fclose(file);
}

bool read_memory(long *total_kib, long *available_kib)
{
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL)
        return false;
    int found = 0;
    char line[128];
    while (found < 2 && fgets(line, sizeof line, file) != NULL)
        found += sscanf(line, "MemTotal: %ld", total_kib) == 1 ||
                 sscanf(line, "MemAvailable: %ld", available_kib) == 1;
    fclose(file);
    return found == 2;
}

void power_off(const char *reason)
{
    say("power off: %s", reason);
    sync();
    reboot(RB_POWER_OFF);
    // Without ACPI the call fails or halts; a PID 1 that returns would be a kernel panic.
    for (;;)
        pause();
}
