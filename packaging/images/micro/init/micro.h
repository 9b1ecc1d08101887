// The parts of the micro guest's one program and what each offers the others.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// boot.c: what an init system would have done.

// Milliseconds since boot; never goes back.
int64_t now_millis(void);
// One line to the serial console. Never blocks: a console nobody reads must not stop the guest.
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void mount_file_systems(void);
// Loads the modules that /modules/order names, in that order. A missing one is said and skipped.
void load_modules(void);
// The machine's UUID in lower case (from DMI), or zeros where the firmware gives none.
void read_identity(char identity[37]);
bool read_memory(long *total_kib, long *available_kib);
_Noreturn void power_off(const char *reason);

// screen.c: a kernel mode-setting device with one dumb frame buffer.

struct rect {
    int x, y, width, height;
};

enum { POINTER_SIZE = 64 };

struct screen {
    int fd;
    uint32_t crtc, framebuffer, pointer_handle;
    int width, height, pitch_pixels;
    uint32_t *pixels;
    // Whether the device draws the pointer; if not, it is painted into what is presented.
    bool pointer_in_hardware;
    int pointer_x, pointer_y;
};

bool screen_open(struct screen *screen);
// Copies one part of the scene (as large as the screen) to the device and declares it damaged.
void screen_present(struct screen *screen, const uint32_t *scene, struct rect part);
void screen_move_pointer(struct screen *screen, const uint32_t *scene, int x, int y);

// scene.c: what the screen shows. Drawing only collects damage; main.c presents it.

enum { PICTURES = 4 };

struct scene;

struct scene *scene_new(int width, int height);
const uint32_t *scene_pixels(const struct scene *scene);
// Takes one damaged part, or returns false when the picture has not changed since.
bool scene_take_damage(struct scene *scene, struct rect *part);
void scene_set_picture(struct scene *scene, int picture);
int scene_picture(const struct scene *scene);
void scene_set_clock(struct scene *scene, int64_t seconds);
void scene_set_identity(struct scene *scene, const char *identity);
void scene_type(struct scene *scene, char character);
void scene_backspace(struct scene *scene);
// Ends the line being typed and returns its text, valid until the next call.
const char *scene_enter(struct scene *scene);
// The name of the button at a point, or "none".
const char *scene_button_at(const struct scene *scene, int x, int y);
void scene_point(struct scene *scene, int x, int y, bool pressed);
// Counts a finished click on the button.
void scene_count_click(struct scene *scene);

// font.c

enum { GLYPH_WIDTH = 5, GLYPH_HEIGHT = 8 };

// Eight rows, the leftmost pixel in bit 4; the last row is for descenders.
const uint8_t *font_glyph(char character);

// input.c: every evdev device, found again each second.

enum { INPUTS_MAX = 16 };

struct input {
    int fd, number;
    bool absolute;
    int x_min, x_max, y_min, y_max;
};

enum input_kind { INPUT_KEY, INPUT_MOVE_TO, INPUT_MOVE_BY, INPUT_WHEEL };

struct input_event_seen {
    enum input_kind kind;
    int code;      // INPUT_KEY: evdev code, mouse buttons included
    bool down;     // INPUT_KEY
    double x, y;   // MOVE_TO: 0..1 of the screen; MOVE_BY: pixels; WHEEL: y in steps, up is positive
};

typedef void input_sink(void *context, const struct input_event_seen *event);

void inputs_init(struct input inputs[INPUTS_MAX]);
void inputs_rescan(struct input inputs[INPUTS_MAX]);
bool inputs_have_tablet(const struct input inputs[INPUTS_MAX]);
// Reads what a device has; closes its slot when it is gone.
void input_read(struct input *input, input_sink *sink, void *context);
// The character a key gives on a US keyboard, or 0.
char key_character(int code, bool shift, bool caps);

// port.c: the line protocol on the virtio-serial port; ../../README.md has its words.

enum { LINE_MAX_BYTES = 160, LINES_MAX = 128 };

struct port {
    int fd;
    bool host_there;
    bool reported_missing;
    // A ring of whole lines. INVARIANT: count <= LINES_MAX, and only `first` may be partly sent.
    char lines[LINES_MAX][LINE_MAX_BYTES];
    int first, count;
    size_t first_sent;
    char received[LINE_MAX_BYTES];
    size_t received_bytes;
    bool skipping;
};

typedef void port_sink(void *context, const char *line);

void port_init(struct port *port);
// Opens the port if it is not open yet and there is one.
void port_find(struct port *port);
// True when the host has just connected. While it is away nothing is kept for it.
bool port_host_came(struct port *port);
// Takes the host for gone until port_host_came finds it there again.
void port_host_went(struct port *port);
void port_send(struct port *port, const char *format, ...) __attribute__((format(printf, 2, 3)));
void port_write(struct port *port);
void port_read(struct port *port, port_sink *sink, void *context);
