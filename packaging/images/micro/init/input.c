// Every evdev device: keyboards, tablets, mice and the power button.
#define _GNU_SOURCE
#include "micro.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { EVENT_NUMBERS_MAX = 32, EVENTS_PER_READ = 64 };

static const char plain[KEY_SLASH + 1] = {
    [KEY_1] = '1', [KEY_2] = '2', [KEY_3] = '3', [KEY_4] = '4', [KEY_5] = '5', [KEY_6] = '6',
    [KEY_7] = '7', [KEY_8] = '8', [KEY_9] = '9', [KEY_0] = '0', [KEY_MINUS] = '-',
    [KEY_EQUAL] = '=', [KEY_Q] = 'q', [KEY_W] = 'w', [KEY_E] = 'e', [KEY_R] = 'r', [KEY_T] = 't',
    [KEY_Y] = 'y', [KEY_U] = 'u', [KEY_I] = 'i', [KEY_O] = 'o', [KEY_P] = 'p',
    [KEY_LEFTBRACE] = '[', [KEY_RIGHTBRACE] = ']', [KEY_A] = 'a', [KEY_S] = 's', [KEY_D] = 'd',
    [KEY_F] = 'f', [KEY_G] = 'g', [KEY_H] = 'h', [KEY_J] = 'j', [KEY_K] = 'k', [KEY_L] = 'l',
    [KEY_SEMICOLON] = ';', [KEY_APOSTROPHE] = '\'', [KEY_GRAVE] = '`', [KEY_BACKSLASH] = '\\',
    [KEY_Z] = 'z', [KEY_X] = 'x', [KEY_C] = 'c', [KEY_V] = 'v', [KEY_B] = 'b', [KEY_N] = 'n',
    [KEY_M] = 'm', [KEY_COMMA] = ',', [KEY_DOT] = '.', [KEY_SLASH] = '/',
};

// The shifted character of each one in `plain` that is not a letter, pair by pair.
static const char shifted[] = "1!2@3#4$5%6^7&8*9(0)-_=+[{]};:'\"`~\\|,<.>/?";

char key_character(int code, bool shift, bool caps)
{
    if (code == KEY_SPACE)
        return ' ';
    if (code < 0 || code > KEY_SLASH || plain[code] == 0)
        return 0;
    char character = plain[code];
    if (character >= 'a' && character <= 'z')
        return shift != caps ? (char)(character - 'a' + 'A') : character;
    for (const char *pair = shifted; shift && *pair != '\0'; pair += 2)
        if (pair[0] == character)
            return pair[1];
    return character;
}

void inputs_init(struct input inputs[INPUTS_MAX])
{
    for (int i = 0; i < INPUTS_MAX; i++)
        inputs[i] = (struct input){.fd = -1, .number = -1};
}

bool inputs_have_tablet(const struct input inputs[INPUTS_MAX])
{
    for (int i = 0; i < INPUTS_MAX; i++)
        if (inputs[i].fd >= 0 && inputs[i].absolute)
            return true;
    return false;
}

static void open_input(struct input *input, int number)
{
    char path[32], name[64] = "";
    snprintf(path, sizeof path, "/dev/input/event%d", number);
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    ioctl(fd, EVIOCGNAME(sizeof name - 1), name);
    // Without the grab the kernel's text console would act on the same keys.
    ioctl(fd, EVIOCGRAB, 1);
    *input = (struct input){.fd = fd, .number = number};
    struct input_absinfo x = {0}, y = {0};
    if (ioctl(fd, EVIOCGABS(ABS_X), &x) == 0 && ioctl(fd, EVIOCGABS(ABS_Y), &y) == 0 &&
        x.maximum > x.minimum && y.maximum > y.minimum) {
        input->absolute = true;
        input->x_min = x.minimum;
        input->x_max = x.maximum;
        input->y_min = y.minimum;
        input->y_max = y.maximum;
    }
    say("input event%d: %s%s", number, name, input->absolute ? " (absolute)" : "");
}

void inputs_rescan(struct input inputs[INPUTS_MAX])
{
    for (int number = 0; number < EVENT_NUMBERS_MAX; number++) {
        struct input *free_slot = NULL;
        bool known = false;
        for (int i = 0; i < INPUTS_MAX; i++) {
            known = known || (inputs[i].fd >= 0 && inputs[i].number == number);
            if (free_slot == NULL && inputs[i].fd < 0)
                free_slot = &inputs[i];
        }
        if (!known && free_slot != NULL)
            open_input(free_slot, number);
    }
}

// What one report has said so far; a report ends with EV_SYN.
struct report {
    bool moved_to, moved_by;
    double x, y, dx, dy;
};

static void end_report(const struct input *input, struct report *report, input_sink *sink,
                       void *context)
{
    if (report->moved_to) {
        // A report names only the axis that changed, so ask for the other one.
        struct input_absinfo x, y;
        if (ioctl(input->fd, EVIOCGABS(ABS_X), &x) < 0 || ioctl(input->fd, EVIOCGABS(ABS_Y), &y) < 0)
            return;
        if (report->x < 0)
            report->x = (double)(x.value - input->x_min) / (input->x_max - input->x_min);
        if (report->y < 0)
            report->y = (double)(y.value - input->y_min) / (input->y_max - input->y_min);
        sink(context, &(struct input_event_seen){
                          .kind = INPUT_MOVE_TO, .x = report->x, .y = report->y});
    }
    if (report->moved_by)
        sink(context, &(struct input_event_seen){
                          .kind = INPUT_MOVE_BY, .x = report->dx, .y = report->dy});
    *report = (struct report){.x = -1, .y = -1};
}

static void take_event(const struct input *input, const struct input_event *event,
                       struct report *report, input_sink *sink, void *context)
{
    if (event->type == EV_SYN) {
        end_report(input, report, sink, context);
    } else if (event->type == EV_ABS && input->absolute && event->code == ABS_X) {
        report->moved_to = true;
        report->x = (double)(event->value - input->x_min) / (input->x_max - input->x_min);
    } else if (event->type == EV_ABS && input->absolute && event->code == ABS_Y) {
        report->moved_to = true;
        report->y = (double)(event->value - input->y_min) / (input->y_max - input->y_min);
    } else if (event->type == EV_REL && (event->code == REL_X || event->code == REL_Y)) {
        report->moved_by = true;
        *(event->code == REL_X ? &report->dx : &report->dy) += event->value;
    } else if (event->type == EV_REL && event->code == REL_WHEEL) {
        sink(context, &(struct input_event_seen){.kind = INPUT_WHEEL, .y = event->value});
    } else if (event->type == EV_KEY && event->value != 2) {
        // Automatic repeats (2) are left out: on a slow host they would double letters.
        // A click belongs to the place the same report moved to, so the movement goes first.
        end_report(input, report, sink, context);
        sink(context, &(struct input_event_seen){
                          .kind = INPUT_KEY, .code = event->code, .down = event->value == 1});
    }
}

void input_read(struct input *input, input_sink *sink, void *context)
{
    struct input_event events[EVENTS_PER_READ];
    struct report report = {.x = -1, .y = -1};
    ssize_t bytes = read(input->fd, events, sizeof events);
    for (ssize_t i = 0; i < bytes / (ssize_t)sizeof events[0]; i++)
        take_event(input, &events[i], &report, sink, context);
    // The kernel hands out whole reports, but a full buffer may cut one.
    end_report(input, &report, sink, context);
    if (bytes < 0 && errno != EAGAIN && errno != EINTR) {
        say("input event%d is gone", input->number);
        close(input->fd);
        *input = (struct input){.fd = -1, .number = -1};
    }
}
