// What the screen shows: a title with a clock, a colour board, a smooth picture, typed text, a button.
//
//   +--------------------------------------------+
//   | Vidi micro                        HH:MM:SS |
//   | +-----------------+  +-------------------+ |
//   | | board, 8 x 8    |  | smooth picture    | |
//   | +-----------------+  +-------------------+ |
//   | +----------------------------------------+ |
//   | | typed text                             | |
//   | +----------------------------------------+ |
//   | [ Change picture ]  clicks 0   identity    |
//   +--------------------------------------------+
#define _GNU_SOURCE
#include "micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MARGIN = 32,
    TITLE_HEIGHT = 48,
    BUTTON_WIDTH = 240,
    BUTTON_HEIGHT = 48,
    BOARD_CELLS = 8,
    TEXT_SCALE = 2,
    CELL_WIDTH = (GLYPH_WIDTH + 1) * TEXT_SCALE,
    CELL_HEIGHT = (GLYPH_HEIGHT + 1) * TEXT_SCALE,
    TEXT_ROWS = 7,
    TEXT_PADDING = 8,
    // Fits a line of the port's protocol, whatever the screen's width.
    COLUMNS_MAX = 120,
    DAMAGE_MAX = 16,
};

enum {
    BACKGROUND = 0xe6ebef,
    INK = 0x1d2a33,
    PAPER = 0xffffff,
    TITLE = 0x24536b,
    TITLE_INK = 0xf4f8fa,
    BUTTON_IDLE = 0x2f7d95,
    BUTTON_HOVER = 0x3d9ab5,
    BUTTON_PRESSED = 0x174a5b,
    LINE = 0x9fb0ba,
};

struct scene {
    int width, height;
    uint32_t *pixels;
    struct rect damage[DAMAGE_MAX];
    int damages;
    int picture;
    long clicks;
    char rows[TEXT_ROWS][COLUMNS_MAX + 1];
    int row, columns;
    char entered[COLUMNS_MAX + 1];
    bool hovered, pressed;
};

// Places, from the screen's size.

static struct rect text_place(const struct scene *scene)
{
    int height = TEXT_ROWS * CELL_HEIGHT + 2 * TEXT_PADDING;
    int bottom = scene->height - MARGIN / 2 - BUTTON_HEIGHT - MARGIN / 2;
    return (struct rect){MARGIN, bottom - height, scene->width - 2 * MARGIN, height};
}

static struct rect board_place(const struct scene *scene)
{
    int top = TITLE_HEIGHT + MARGIN / 2;
    int height = text_place(scene).y - MARGIN / 2 - top;
    return (struct rect){MARGIN, top, (scene->width - 3 * MARGIN) / 2, height};
}

static struct rect smooth_place(const struct scene *scene)
{
    struct rect board = board_place(scene);
    int left = board.x + board.width + MARGIN;
    return (struct rect){left, board.y, scene->width - MARGIN - left, board.height};
}

static struct rect button_place(const struct scene *scene)
{
    return (struct rect){MARGIN, scene->height - MARGIN / 2 - BUTTON_HEIGHT, BUTTON_WIDTH,
                         BUTTON_HEIGHT};
}

static bool inside(struct rect place, int x, int y)
{
    return x >= place.x && y >= place.y && x < place.x + place.width && y < place.y + place.height;
}

// Drawing.

static struct rect around(struct rect a, struct rect b)
{
    int right = a.x + a.width > b.x + b.width ? a.x + a.width : b.x + b.width;
    int bottom = a.y + a.height > b.y + b.height ? a.y + a.height : b.y + b.height;
    int x = a.x < b.x ? a.x : b.x, y = a.y < b.y ? a.y : b.y;
    return (struct rect){x, y, right - x, bottom - y};
}

static void damage(struct scene *scene, struct rect place)
{
    if (scene->damages < DAMAGE_MAX)
        scene->damage[scene->damages++] = place;
    else
        scene->damage[DAMAGE_MAX - 1] = around(scene->damage[DAMAGE_MAX - 1], place);
}

static void put(struct scene *scene, int x, int y, uint32_t colour)
{
    if (x >= 0 && y >= 0 && x < scene->width && y < scene->height)
        scene->pixels[(size_t)y * scene->width + x] = colour;
}

static void fill(struct scene *scene, struct rect place, uint32_t colour)
{
    for (int y = place.y; y < place.y + place.height; y++)
        for (int x = place.x; x < place.x + place.width; x++)
            put(scene, x, y, colour);
}

static void frame(struct scene *scene, struct rect place, uint32_t colour)
{
    fill(scene, (struct rect){place.x, place.y, place.width, 1}, colour);
    fill(scene, (struct rect){place.x, place.y + place.height - 1, place.width, 1}, colour);
    fill(scene, (struct rect){place.x, place.y, 1, place.height}, colour);
    fill(scene, (struct rect){place.x + place.width - 1, place.y, 1, place.height}, colour);
}

static void write_text(struct scene *scene, int left, int top, const char *text, int scale,
                       uint32_t colour)
{
    for (; *text != '\0'; text++, left += (GLYPH_WIDTH + 1) * scale) {
        const uint8_t *glyph = font_glyph(*text);
        for (int y = 0; y < GLYPH_HEIGHT * scale; y++)
            for (int x = 0; x < GLYPH_WIDTH * scale; x++)
                if (glyph[y / scale] & (0x10 >> (x / scale)))
                    put(scene, left + x, top + y, colour);
    }
}

static int text_width(const char *text, int scale)
{
    return (int)strlen(text) * (GLYPH_WIDTH + 1) * scale;
}

static int limited(int value)
{
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

// The channels change places from picture to picture, so that no two pictures look alike.
static uint32_t mixed(int picture, int a, int b, int c)
{
    switch (picture) {
    case 0: return (uint32_t)(a << 16 | b << 8 | c);
    case 1: return (uint32_t)(c << 16 | a << 8 | (255 - b));
    case 2: return (uint32_t)((255 - b) << 16 | c << 8 | a);
    default: return (uint32_t)((255 - a) << 16 | (255 - c) << 8 | (255 - b));
    }
}

static void draw_board(struct scene *scene)
{
    struct rect place = board_place(scene);
    for (int cell = 0; cell < BOARD_CELLS * BOARD_CELLS; cell++) {
        // Four levels in each channel make 64 colours; the offset differs for each picture.
        int base = 20 + 7 * scene->picture, step = 68;
        uint32_t colour = mixed(scene->picture, base + (cell & 3) * step,
                                base + (cell >> 2 & 3) * step, base + (cell >> 4 & 3) * step);
        int column = cell % BOARD_CELLS, row = cell / BOARD_CELLS;
        int x = place.width * column / BOARD_CELLS, y = place.height * row / BOARD_CELLS;
        fill(scene,
             (struct rect){place.x + x, place.y + y, place.width * (column + 1) / BOARD_CELLS - x,
                           place.height * (row + 1) / BOARD_CELLS - y},
             colour);
    }
    damage(scene, place);
}

// Slow ramps crossed by a round glow: thousands of colours without edges, as in a photo.
static void draw_smooth(struct scene *scene)
{
    struct rect place = smooth_place(scene);
    for (int y = 0; y < place.height; y++)
        for (int x = 0; x < place.width; x++) {
            int u = x * 255 / place.width, v = y * 255 / place.height;
            int dx = u - 90 - 25 * scene->picture, dy = v - 100;
            int glow = 255 - (dx * dx + dy * dy) / 90;
            uint32_t colour = mixed(scene->picture, limited(u), limited((u + 2 * v) / 3),
                                    limited(glow < 40 ? 40 : glow));
            put(scene, place.x + x, place.y + y, colour);
        }
    damage(scene, place);
}

static void draw_row(struct scene *scene, int row)
{
    struct rect area = text_place(scene);
    struct rect place = {area.x + 1, area.y + TEXT_PADDING + row * CELL_HEIGHT, area.width - 2,
                         CELL_HEIGHT};
    fill(scene, place, PAPER);
    int left = area.x + TEXT_PADDING;
    write_text(scene, left, place.y + 1, scene->rows[row], TEXT_SCALE, INK);
    // The caret does not blink: a still screen must stay still.
    if (row == scene->row)
        fill(scene,
             (struct rect){left + text_width(scene->rows[row], TEXT_SCALE), place.y, TEXT_SCALE,
                           CELL_HEIGHT - TEXT_SCALE},
             BUTTON_IDLE);
}

// Redraws what one keystroke changed: the cells from `column` to two behind it.
static void redraw_cells(struct scene *scene, int column)
{
    struct rect area = text_place(scene);
    draw_row(scene, scene->row);
    damage(scene, (struct rect){area.x + TEXT_PADDING + column * CELL_WIDTH,
                                area.y + TEXT_PADDING + scene->row * CELL_HEIGHT, 2 * CELL_WIDTH,
                                CELL_HEIGHT});
}

static void draw_text(struct scene *scene)
{
    struct rect area = text_place(scene);
    fill(scene, area, PAPER);
    frame(scene, area, LINE);
    for (int row = 0; row < TEXT_ROWS; row++)
        draw_row(scene, row);
    damage(scene, area);
}

static void draw_button(struct scene *scene)
{
    struct rect place = button_place(scene);
    uint32_t colour = scene->pressed ? BUTTON_PRESSED : scene->hovered ? BUTTON_HOVER : BUTTON_IDLE;
    fill(scene, place, colour);
    frame(scene, place, BUTTON_PRESSED);
    const char *label = "Change picture";
    int drop = scene->pressed ? 2 : 0;
    write_text(scene, place.x + (place.width - text_width(label, 2)) / 2 + drop,
               place.y + (place.height - GLYPH_HEIGHT * 2) / 2 + drop, label, 2, PAPER);
    damage(scene, place);
}

static void draw_clicks(struct scene *scene)
{
    struct rect button = button_place(scene);
    struct rect place = {button.x + button.width + MARGIN / 2, button.y + 8, 14 * CELL_WIDTH,
                         button.height - 16};
    char text[24];
    snprintf(text, sizeof text, "clicks %ld", scene->clicks % 1000000);
    fill(scene, place, BACKGROUND);
    write_text(scene, place.x, place.y + 8, text, TEXT_SCALE, INK);
    damage(scene, place);
}

static void draw_all(struct scene *scene)
{
    fill(scene, (struct rect){0, 0, scene->width, scene->height}, BACKGROUND);
    fill(scene, (struct rect){0, 0, scene->width, TITLE_HEIGHT}, TITLE);
    write_text(scene, MARGIN, 12, "Vidi micro", 3, TITLE_INK);
    draw_board(scene);
    draw_smooth(scene);
    draw_text(scene);
    draw_button(scene);
    draw_clicks(scene);
    scene_set_clock(scene, now_millis() / 1000);
    // One whole picture for the first time, not its parts.
    scene->damage[0] = (struct rect){0, 0, scene->width, scene->height};
    scene->damages = 1;
}

// What main.c calls.

struct scene *scene_new(int width, int height)
{
    struct scene *scene = calloc(1, sizeof *scene);
    uint32_t *pixels = calloc((size_t)width * height, sizeof *pixels);
    if (scene == NULL || pixels == NULL)
        power_off("no memory for the picture");
    scene->width = width;
    scene->height = height;
    scene->pixels = pixels;
    int fitting = (text_place(scene).width - 2 * TEXT_PADDING) / CELL_WIDTH - 1;
    scene->columns = fitting < COLUMNS_MAX ? fitting : COLUMNS_MAX;
    draw_all(scene);
    return scene;
}

const uint32_t *scene_pixels(const struct scene *scene)
{
    return scene->pixels;
}

bool scene_take_damage(struct scene *scene, struct rect *part)
{
    if (scene->damages == 0)
        return false;
    *part = scene->damage[--scene->damages];
    return true;
}

void scene_set_picture(struct scene *scene, int picture)
{
    scene->picture = picture;
    draw_board(scene);
    draw_smooth(scene);
}

int scene_picture(const struct scene *scene)
{
    return scene->picture;
}

void scene_set_clock(struct scene *scene, int64_t seconds)
{
    char text[16];
    int hours = (int)(seconds / 3600 % 100);
    snprintf(text, sizeof text, "%02d:%02d:%02d", hours, (int)(seconds / 60 % 60),
             (int)(seconds % 60));
    int width = text_width(text, 2);
    struct rect place = {scene->width - MARGIN - width, 12, width, 24};
    fill(scene, place, TITLE);
    write_text(scene, place.x, place.y + 4, text, 2, TITLE_INK);
    damage(scene, place);
}

void scene_set_identity(struct scene *scene, const char *identity)
{
    int width = text_width(identity, 1);
    struct rect button = button_place(scene);
    struct rect place = {scene->width - MARGIN - width, button.y + button.height / 2 - 4, width, 8};
    write_text(scene, place.x, place.y, identity, 1, INK);
    damage(scene, place);
}

void scene_type(struct scene *scene, char character)
{
    char *row = scene->rows[scene->row];
    int length = (int)strlen(row);
    if (length >= scene->columns)
        return;
    row[length] = character;
    row[length + 1] = '\0';
    redraw_cells(scene, length);
}

void scene_backspace(struct scene *scene)
{
    char *row = scene->rows[scene->row];
    int length = (int)strlen(row);
    if (length == 0)
        return;
    row[length - 1] = '\0';
    redraw_cells(scene, length - 1);
}

const char *scene_enter(struct scene *scene)
{
    strcpy(scene->entered, scene->rows[scene->row]);
    if (scene->row + 1 < TEXT_ROWS) {
        int ended = scene->row++;
        int column = (int)strlen(scene->rows[ended]);
        struct rect area = text_place(scene);
        draw_row(scene, ended);
        damage(scene, (struct rect){area.x + TEXT_PADDING + column * CELL_WIDTH,
                                    area.y + TEXT_PADDING + ended * CELL_HEIGHT, CELL_WIDTH,
                                    CELL_HEIGHT});
        redraw_cells(scene, 0);
    } else {
        memmove(scene->rows[0], scene->rows[1], sizeof scene->rows[0] * (TEXT_ROWS - 1));
        scene->rows[TEXT_ROWS - 1][0] = '\0';
        draw_text(scene);
    }
    return scene->entered;
}

const char *scene_button_at(const struct scene *scene, int x, int y)
{
    return inside(button_place(scene), x, y) ? "change-picture" : "none";
}

void scene_point(struct scene *scene, int x, int y, bool pressed)
{
    bool hovered = inside(button_place(scene), x, y);
    if (hovered == scene->hovered && (pressed && hovered) == scene->pressed)
        return;
    scene->hovered = hovered;
    scene->pressed = pressed && hovered;
    draw_button(scene);
}

void scene_count_click(struct scene *scene)
{
    scene->clicks++;
    draw_clicks(scene);
}
