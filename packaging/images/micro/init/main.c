// PID 1 of the micro guest: one loop over the input devices, the port to the host and the clock.
#define _GNU_SOURCE
#include "micro.h"

#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    READY_EVERY_MILLIS = 2000,
    MEMORY_EVERY_MILLIS = 10000,
    // At most five positions a second: enough to test by, and no flood.
    POINTER_EVERY_MILLIS = 200,
    // USB finds a tablet about half a second after its driver. A guest that says `ready` sooner
    // would lose the first clicks; one without a tablet need not wait for longer than this.
    TABLET_WAIT_MILLIS = 3000,
    TABLET_LOOK_MILLIS = 50,
};

struct guest {
    char identity[37];
    struct screen screen;
    struct scene *scene;   // NULL until there is a screen
    bool complained;
    struct input inputs[INPUTS_MAX];
    struct port port;
    int signals;
    // Whether input is as it will be: a tablet was found, or waited for long enough.
    bool settled;
    bool acknowledged;
    int64_t drawn_at;
    int64_t ready_due, memory_due, pointer_due, second;
    bool pointer_unsent;
    double x, y;
    bool shift_left, shift_right, control, alt, caps;
    bool button_down, pressed_on_button;
};

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// What a test wants to know: told to the host, and on the serial console, where it is read without
// taking the port from the agent.
__attribute__((format(printf, 2, 3))) static void report(struct guest *guest, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    port_send(&guest->port, "%s", text);
    say("%s", text);
}

static void present(struct guest *guest)
{
    struct rect part;
    while (guest->scene != NULL && scene_take_damage(guest->scene, &part))
        screen_present(&guest->screen, scene_pixels(guest->scene), part);
}

static void find_screen(struct guest *guest)
{
    if (guest->scene != NULL)
        return;
    if (!screen_open(&guest->screen)) {
        if (!guest->complained)
            say("no screen with a connected output; looking for one each second");
        guest->complained = true;
        return;
    }
    guest->scene = scene_new(guest->screen.width, guest->screen.height);
    scene_set_identity(guest->scene, guest->identity);
    guest->x = guest->screen.pointer_x;
    guest->y = guest->screen.pointer_y;
    present(guest);
    guest->drawn_at = now_millis();
    say("first picture drawn");
}

static void switch_picture(struct guest *guest, int picture)
{
    if (guest->scene == NULL || picture == scene_picture(guest->scene))
        return;
    scene_set_picture(guest->scene, picture);
    // Presented before it is reported, so that who reads the report can look.
    present(guest);
    report(guest, "picture %d", picture);
}

static void next_picture(struct guest *guest)
{
    if (guest->scene != NULL)
        switch_picture(guest, (scene_picture(guest->scene) + 1) % PICTURES);
}

// What the host says.
static void take_line(void *context, const char *line)
{
    struct guest *guest = context;
    char *end;
    if (strcmp(line, "ok") == 0) {
        guest->acknowledged = true;
    } else if (strcmp(line, "who") == 0) {
        // An `ok` of a host that went may have come after the one that asks now.
        guest->acknowledged = false;
        guest->ready_due = now_millis();
    } else if (strcmp(line, "ping") == 0) {
        port_send(&guest->port, "pong");
    } else if (strcmp(line, "shutdown") == 0) {
        power_off("asked by the host");
    } else if (strncmp(line, "picture ", 8) == 0) {
        long picture = strtol(line + 8, &end, 10);
        if (end != line + 8 && *end == '\0' && picture >= 0 && picture < PICTURES)
            switch_picture(guest, (int)picture);
    }
}

static void send_pointer(struct guest *guest, int64_t now)
{
    guest->pointer_unsent = false;
    guest->pointer_due = now + POINTER_EVERY_MILLIS;
    port_send(&guest->port, "pointer %d %d", (int)guest->x, (int)guest->y);
}

static void move_pointer(struct guest *guest, double x, double y)
{
    double right = guest->screen.width - 1, bottom = guest->screen.height - 1;
    guest->x = x < 0 ? 0 : x > right ? right : x;
    guest->y = y < 0 ? 0 : y > bottom ? bottom : y;
    scene_point(guest->scene, (int)guest->x, (int)guest->y, guest->pressed_on_button);
    screen_move_pointer(&guest->screen, scene_pixels(guest->scene), (int)guest->x, (int)guest->y);
    guest->pointer_unsent = true;
}

// A click is a press and a release of the left button; it means a button only if both were on it.
static void take_left_button(struct guest *guest, bool down)
{
    int x = (int)guest->x, y = (int)guest->y;
    const char *at = scene_button_at(guest->scene, x, y);
    bool on_button = strcmp(at, "none") != 0;
    bool clicked = !down && guest->button_down;
    bool hit = clicked && guest->pressed_on_button && on_button;
    guest->button_down = down;
    guest->pressed_on_button = down && on_button;
    scene_point(guest->scene, x, y, guest->pressed_on_button);
    if (!clicked)
        return;
    report(guest, "click %d %d %s", x, y, hit ? at : "none");
    if (hit) {
        scene_count_click(guest->scene);
        next_picture(guest);
    }
}

static void type_key(struct guest *guest, int code)
{
    if (code == KEY_ENTER || code == KEY_KPENTER) {
        const char *line = scene_enter(guest->scene);
        present(guest);
        report(guest, "line %s", line);
    } else if (code == KEY_BACKSPACE) {
        scene_backspace(guest->scene);
    } else if (code == KEY_F2) {
        next_picture(guest);
    } else if (!guest->control && !guest->alt) {
        char character = key_character(code, guest->shift_left || guest->shift_right, guest->caps);
        if (character != 0)
            scene_type(guest->scene, character);
    }
}

static void take_key(struct guest *guest, int code, bool down)
{
    if (code == KEY_POWER && down)
        power_off("power button");
    report(guest, "key %d %s", code, down ? "down" : "up");
    switch (code) {
    case KEY_LEFTSHIFT: guest->shift_left = down; return;
    case KEY_RIGHTSHIFT: guest->shift_right = down; return;
    case KEY_LEFTCTRL:
    case KEY_RIGHTCTRL: guest->control = down; return;
    case KEY_LEFTALT:
    case KEY_RIGHTALT: guest->alt = down; return;
    case KEY_CAPSLOCK: guest->caps = guest->caps != down; return;
    }
    if (guest->scene == NULL)
        return;
    if (code == BTN_LEFT)
        take_left_button(guest, down);
    else if (down)
        type_key(guest, code);
}

static void take_input(void *context, const struct input_event_seen *event)
{
    struct guest *guest = context;
    switch (event->kind) {
    case INPUT_KEY:
        take_key(guest, event->code, event->down);
        break;
    case INPUT_WHEEL:
        report(guest, "wheel %d", (int)event->y);
        break;
    case INPUT_MOVE_TO:
        if (guest->scene != NULL)
            // Nearest pixel: the host scales a pixel up to the tablet's range and rounds down.
            move_pointer(guest, (int)(event->x * (guest->screen.width - 1) + 0.5),
                         (int)(event->y * (guest->screen.height - 1) + 0.5));
        break;
    case INPUT_MOVE_BY:
        if (guest->scene != NULL)
            move_pointer(guest, guest->x + event->x, guest->y + event->y);
        break;
    }
}

static void settle(struct guest *guest, int64_t now)
{
    inputs_rescan(guest->inputs);
    guest->settled = inputs_have_tablet(guest->inputs) ||
                     now >= guest->drawn_at + TABLET_WAIT_MILLIS;
    if (guest->settled)
        say("ready");
}

// What is due by the clock. Returns when the next thing is.
static int64_t keep_time(struct guest *guest)
{
    int64_t now = now_millis();
    if (now / 1000 != guest->second) {
        guest->second = now / 1000;
        inputs_rescan(guest->inputs);
        port_find(&guest->port);
        find_screen(guest);
        if (guest->scene != NULL)
            scene_set_clock(guest->scene, guest->second);
    }
    if (guest->scene != NULL && !guest->settled)
        settle(guest, now);
    if (port_host_came(&guest->port)) {
        guest->acknowledged = false;
        guest->ready_due = guest->memory_due = now;
    }
    int64_t next = (guest->second + 1) * 1000;
    if (guest->scene != NULL && !guest->settled)
        next = sooner(next, now + TABLET_LOOK_MILLIS);
    if (!guest->port.host_there)
        return next;
    if (guest->settled && !guest->acknowledged) {
        if (now >= guest->ready_due) {
            guest->ready_due = now + READY_EVERY_MILLIS;
            port_send(&guest->port, "ready %s", guest->identity);
        }
        next = sooner(next, guest->ready_due);
    }
    long total, available;
    if (now >= guest->memory_due && read_memory(&total, &available)) {
        guest->memory_due = now + MEMORY_EVERY_MILLIS;
        port_send(&guest->port, "memory %ld %ld", total, available);
    }
    if (guest->pointer_unsent && now >= guest->pointer_due)
        send_pointer(guest, now);
    return guest->pointer_unsent ? sooner(next, guest->pointer_due) : next;
}

static void wait_and_read(struct guest *guest, int64_t until)
{
    enum { SIGNALS, PORT, INPUTS };
    struct pollfd polled[INPUTS + INPUTS_MAX] = {
        [SIGNALS] = {.fd = guest->signals, .events = POLLIN},
        // A port without its host is always "ready" (POLLHUP); SIGIO says when it is there again.
        [PORT] = {.fd = guest->port.host_there ? guest->port.fd : -1,
                  .events = (short)(POLLIN | (guest->port.count > 0 ? POLLOUT : 0))},
    };
    for (int i = 0; i < INPUTS_MAX; i++)
        polled[INPUTS + i] = (struct pollfd){.fd = guest->inputs[i].fd, .events = POLLIN};
    int64_t wait = until - now_millis();
    if (poll(polled, INPUTS + INPUTS_MAX, wait < 0 ? 0 : (int)wait) <= 0)
        return;
    if (polled[SIGNALS].revents) {
        struct signalfd_siginfo ignored[4];
        ssize_t bytes = read(guest->signals, ignored, sizeof ignored);
        (void)bytes;
        // The signal comes with data and with a host that comes or goes. One that went and came at
        // once shows nothing else, so a signal without data counts as that; at worst `ready` is
        // said once too often.
        if (!(polled[PORT].revents & POLLIN))
            port_host_went(&guest->port);
    }
    if (polled[PORT].revents & POLLOUT)
        port_write(&guest->port);
    if (polled[PORT].revents & POLLIN)
        port_read(&guest->port, take_line, guest);
    for (int i = 0; i < INPUTS_MAX; i++)
        if (polled[INPUTS + i].revents)
            input_read(&guest->inputs[i], take_input, guest);
}

int main(void)
{
    static struct guest guest;
    mount_file_systems();
    say("started");
    // Ctrl-Alt-Del is a key like any other here.
    reboot(RB_DISABLE_CAD);
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGIO);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    guest.signals = signalfd(-1, &watched, SFD_NONBLOCK | SFD_CLOEXEC);
    load_modules();
    say("modules loaded");
    read_identity(guest.identity);
    inputs_init(guest.inputs);
    port_init(&guest.port);
    guest.second = -1;
    for (;;) {
        int64_t until = keep_time(&guest);
        present(&guest);
        wait_and_read(&guest, until);
        present(&guest);
    }
}
