// The line protocol on the virtio-serial port dev.vidi.guest.0; ../../README.md has its words.
//
// The guest never waits for the host. Lines wait in a bounded ring; when it is full the oldest
// pointer position goes first, because a newer one says more than it did.
#define _GNU_SOURCE
#include "micro.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PORT_NAME "dev.vidi.guest.0"
#define PORT_CLASS "/sys/class/virtio-ports"

void port_init(struct port *port)
{
    memset(port, 0, sizeof *port);
    port->fd = -1;
}

static bool has_our_name(const char *device)
{
    char path[320], name[64] = "";
    snprintf(path, sizeof path, PORT_CLASS "/%s/name", device);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool read = fgets(name, sizeof name, file) != NULL;
    fclose(file);
    name[strcspn(name, "\n")] = '\0';
    return read && strcmp(name, PORT_NAME) == 0;
}

void port_find(struct port *port)
{
    if (port->fd >= 0)
        return;
    DIR *directory = opendir(PORT_CLASS);
    struct dirent *entry;
    while (directory != NULL && port->fd < 0 && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.' || !has_our_name(entry->d_name))
            continue;
        char path[320];
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        port->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (port->fd < 0)
            say("cannot open %s: %s", path, strerror(errno));
    }
    if (directory != NULL)
        closedir(directory);
    if (port->fd >= 0) {
        // SIGIO tells when the host comes or goes; polling for it would spin on POLLHUP.
        fcntl(port->fd, F_SETOWN, getpid());
        fcntl(port->fd, F_SETFL, O_NONBLOCK | O_ASYNC);
        say("port " PORT_NAME " found");
    } else if (!port->reported_missing) {
        port->reported_missing = true;
        say("no port " PORT_NAME "; looking for it each second");
    }
}

static void drop_all(struct port *port)
{
    port->count = 0;
    port->first_sent = 0;
    port->received_bytes = 0;
    port->skipping = false;
}

bool port_host_came(struct port *port)
{
    if (port->fd < 0)
        return false;
    struct pollfd state = {.fd = port->fd};
    poll(&state, 1, 0);
    bool there = !(state.revents & (POLLHUP | POLLERR));
    bool came = there && !port->host_there;
    // What was meant for a host that went away would only puzzle the next one.
    if (there != port->host_there)
        drop_all(port);
    port->host_there = there;
    return came;
}

void port_host_went(struct port *port)
{
    port->host_there = false;
}

static char *line_at(struct port *port, int index)
{
    return port->lines[(port->first + index) % LINES_MAX];
}

// Makes room for one line: the oldest pointer position, else the oldest line not being sent.
static void drop_one(struct port *port)
{
    int begin = port->first_sent > 0 ? 1 : 0, victim = begin;
    for (int i = begin; i < port->count; i++)
        if (strncmp(line_at(port, i), "pointer ", 8) == 0) {
            victim = i;
            break;
        }
    for (int i = victim; i + 1 < port->count; i++)
        memcpy(line_at(port, i), line_at(port, i + 1), LINE_MAX_BYTES);
    port->count--;
}

void port_send(struct port *port, const char *format, ...)
{
    if (port->fd < 0 || !port->host_there)
        return;
    if (port->count == LINES_MAX)
        drop_one(port);
    char *line = line_at(port, port->count);
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(line, LINE_MAX_BYTES - 1, format, arguments);
    va_end(arguments);
    if (bytes > LINE_MAX_BYTES - 2)
        bytes = LINE_MAX_BYTES - 2;
    strcpy(line + bytes, "\n");
    port->count++;
    port_write(port);
}

void port_write(struct port *port)
{
    while (port->count > 0) {
        const char *line = line_at(port, 0);
        size_t left = strlen(line) - port->first_sent;
        ssize_t sent = write(port->fd, line + port->first_sent, left);
        if (sent <= 0)
            return;
        port->first_sent += (size_t)sent;
        if ((size_t)sent < left)
            return;
        port->first = (port->first + 1) % LINES_MAX;
        port->count--;
        port->first_sent = 0;
    }
}

static void take_byte(struct port *port, char byte, port_sink *sink, void *context)
{
    if (byte == '\n') {
        port->received[port->received_bytes] = '\0';
        if (!port->skipping)
            sink(context, port->received);
        port->received_bytes = 0;
        port->skipping = false;
    } else if (port->received_bytes + 1 < sizeof port->received) {
        port->received[port->received_bytes++] = byte;
    } else {
        // Longer than any word of the protocol: ignored up to its end.
        port->skipping = true;
    }
}

void port_read(struct port *port, port_sink *sink, void *context)
{
    char bytes[512];
    ssize_t count = read(port->fd, bytes, sizeof bytes);
    for (ssize_t i = 0; i < count; i++)
        take_byte(port, bytes[i], sink, context);
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        say("port " PORT_NAME " is gone: %s", strerror(errno));
        close(port->fd);
        port_init(port);
    }
}
