// A kernel mode-setting device with one dumb frame buffer and a pointer.
//
// Dumb buffers and the legacy calls work alike with qxl, bochs (VGA) and virtio-gpu. Each needs to
// be told what changed (DIRTYFB): qxl and virtio-gpu then send just that part to the host.
#define _GNU_SOURCE
#include "micro.h"

#include <drm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    WANTED_WIDTH = 1024,
    WANTED_HEIGHT = 768,
    CARDS_MAX = 4,
    OBJECTS_MAX = 16,
    MODES_MAX = 128,
    POINTER_ROWS = 20,
};

// The arrow: # edge, . inside. Its hot spot is the top left corner.
static const char *const arrow[POINTER_ROWS] = {
    "#", "##", "#.#", "#..#", "#...#", "#....#", "#.....#", "#......#", "#.......#", "#........#",
    "#.........#", "#..........#", "#......#####", "#...#..#", "#..# #..#", "#.#  #..#", "##    #..#",
    "#     #..#", "       #..#", "       ####",
};

static int call(int fd, unsigned long request, void *argument)
{
    int result;
    do
        result = ioctl(fd, request, argument);
    while (result < 0 && (errno == EINTR || errno == EAGAIN));
    return result;
}

static uint32_t arrow_pixel(int x, int y)
{
    if (y >= POINTER_ROWS || x >= (int)strlen(arrow[y]) || arrow[y][x] == ' ')
        return 0;
    return arrow[y][x] == '#' ? 0xff101820 : 0xffffffff;
}

static uint32_t *make_buffer(int fd, int width, int height, struct drm_mode_create_dumb *dumb)
{
    *dumb = (struct drm_mode_create_dumb){.width = width, .height = height, .bpp = 32};
    if (call(fd, DRM_IOCTL_MODE_CREATE_DUMB, dumb) < 0)
        return NULL;
    struct drm_mode_map_dumb map = {.handle = dumb->handle};
    if (call(fd, DRM_IOCTL_MODE_MAP_DUMB, &map) < 0)
        return NULL;
    void *pixels = mmap(NULL, dumb->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, map.offset);
    return pixels == MAP_FAILED ? NULL : pixels;
}

// The wanted mode if the connector has it, else its first, which is the preferred one.
static bool choose_mode(int fd, uint32_t connector, struct drm_mode_modeinfo *mode,
                        uint32_t *encoder)
{
    static struct drm_mode_modeinfo modes[MODES_MAX];
    uint32_t encoders[OBJECTS_MAX];
    // With no room for modes the call probes the connector, so ask for the counts first.
    struct drm_mode_get_connector query = {.connector_id = connector};
    if (call(fd, DRM_IOCTL_MODE_GETCONNECTOR, &query) < 0 || query.connection != 1 ||
        query.count_modes == 0 || query.count_modes > MODES_MAX || query.count_encoders == 0 ||
        query.count_encoders > OBJECTS_MAX)
        return false;
    query.count_props = 0;
    query.modes_ptr = (uintptr_t)modes;
    query.encoders_ptr = (uintptr_t)encoders;
    if (call(fd, DRM_IOCTL_MODE_GETCONNECTOR, &query) < 0)
        return false;
    *mode = modes[0];
    for (uint32_t i = 0; i < query.count_modes && i < MODES_MAX; i++)
        if (modes[i].hdisplay == WANTED_WIDTH && modes[i].vdisplay == WANTED_HEIGHT) {
            *mode = modes[i];
            break;
        }
    *encoder = encoders[0];
    return true;
}

static bool set_mode(struct screen *screen, uint32_t connector, uint32_t encoder,
                     const struct drm_mode_card_res *resources, const uint32_t *crtcs,
                     const struct drm_mode_modeinfo *mode)
{
    struct drm_mode_get_encoder encoder_query = {.encoder_id = encoder};
    if (call(screen->fd, DRM_IOCTL_MODE_GETENCODER, &encoder_query) < 0)
        return false;
    for (uint32_t i = 0; i < resources->count_crtcs; i++) {
        if (!(encoder_query.possible_crtcs & (1u << i)))
            continue;
        struct drm_mode_crtc set = {
            .set_connectors_ptr = (uintptr_t)&connector,
            .count_connectors = 1,
            .crtc_id = crtcs[i],
            .fb_id = screen->framebuffer,
            .mode_valid = 1,
            .mode = *mode,
        };
        if (call(screen->fd, DRM_IOCTL_MODE_SETCRTC, &set) == 0) {
            screen->crtc = crtcs[i];
            return true;
        }
    }
    say("cannot set the mode %s: %s", mode->name, strerror(errno));
    return false;
}

static void make_pointer(struct screen *screen)
{
    struct drm_mode_create_dumb dumb;
    uint32_t *pixels = make_buffer(screen->fd, POINTER_SIZE, POINTER_SIZE, &dumb);
    if (pixels != NULL) {
        for (int y = 0; y < POINTER_SIZE; y++)
            for (int x = 0; x < POINTER_SIZE; x++)
                pixels[y * (dumb.pitch / 4) + x] = arrow_pixel(x, y);
        struct drm_mode_cursor2 set = {
            .flags = DRM_MODE_CURSOR_BO | DRM_MODE_CURSOR_MOVE,
            .crtc_id = screen->crtc,
            .x = screen->pointer_x,
            .y = screen->pointer_y,
            .width = POINTER_SIZE,
            .height = POINTER_SIZE,
            .handle = dumb.handle,
        };
        screen->pointer_in_hardware = call(screen->fd, DRM_IOCTL_MODE_CURSOR2, &set) == 0;
    }
    if (!screen->pointer_in_hardware)
        say("no hardware pointer; painting it");
}

static bool open_card(struct screen *screen, const char *path)
{
    screen->fd = open(path, O_RDWR | O_CLOEXEC);
    if (screen->fd < 0)
        return false;
    uint32_t connectors[OBJECTS_MAX], crtcs[OBJECTS_MAX];
    struct drm_mode_card_res resources = {
        .connector_id_ptr = (uintptr_t)connectors,
        .crtc_id_ptr = (uintptr_t)crtcs,
        .count_connectors = OBJECTS_MAX,
        .count_crtcs = OBJECTS_MAX,
    };
    if (call(screen->fd, DRM_IOCTL_MODE_GETRESOURCES, &resources) < 0 ||
        resources.count_connectors > OBJECTS_MAX || resources.count_crtcs > OBJECTS_MAX)
        return false;
    for (uint32_t i = 0; i < resources.count_connectors; i++) {
        struct drm_mode_modeinfo mode;
        uint32_t encoder;
        if (!choose_mode(screen->fd, connectors[i], &mode, &encoder))
            continue;
        struct drm_mode_create_dumb dumb;
        screen->pixels = make_buffer(screen->fd, mode.hdisplay, mode.vdisplay, &dumb);
        if (screen->pixels == NULL)
            return false;
        screen->width = mode.hdisplay;
        screen->height = mode.vdisplay;
        screen->pitch_pixels = (int)dumb.pitch / 4;
        struct drm_mode_fb_cmd frame = {
            .width = dumb.width,
            .height = dumb.height,
            .pitch = dumb.pitch,
            .bpp = 32,
            .depth = 24,
            .handle = dumb.handle,
        };
        if (call(screen->fd, DRM_IOCTL_MODE_ADDFB, &frame) < 0)
            return false;
        screen->framebuffer = frame.fb_id;
        return set_mode(screen, connectors[i], encoder, &resources, crtcs, &mode);
    }
    return false;
}

bool screen_open(struct screen *screen)
{
    for (int card = 0; card < CARDS_MAX; card++) {
        *screen = (struct screen){.fd = -1};
        char path[32];
        snprintf(path, sizeof path, "/dev/dri/card%d", card);
        if (open_card(screen, path)) {
            screen->pointer_x = screen->width / 2;
            screen->pointer_y = screen->height / 2;
            make_pointer(screen);
            say("screen %s, %dx%d", path, screen->width, screen->height);
            return true;
        }
        // Closing the device gives back its buffers too.
        if (screen->fd >= 0)
            close(screen->fd);
    }
    return false;
}

static struct rect clip(const struct screen *screen, struct rect part)
{
    int right = part.x + part.width, bottom = part.y + part.height;
    part.x = part.x < 0 ? 0 : part.x;
    part.y = part.y < 0 ? 0 : part.y;
    part.width = (right > screen->width ? screen->width : right) - part.x;
    part.height = (bottom > screen->height ? screen->height : bottom) - part.y;
    return part;
}

void screen_present(struct screen *screen, const uint32_t *scene, struct rect part)
{
    part = clip(screen, part);
    if (part.width <= 0 || part.height <= 0)
        return;
    for (int y = part.y; y < part.y + part.height; y++) {
        uint32_t *row = screen->pixels + (size_t)y * screen->pitch_pixels;
        memcpy(row + part.x, scene + (size_t)y * screen->width + part.x, part.width * 4u);
        if (screen->pointer_in_hardware)
            continue;
        for (int x = part.x; x < part.x + part.width; x++) {
            int dx = x - screen->pointer_x, dy = y - screen->pointer_y;
            if (dx >= 0 && dy >= 0 && arrow_pixel(dx, dy) != 0)
                row[x] = arrow_pixel(dx, dy);
        }
    }
    struct drm_clip_rect damage = {part.x, part.y, part.x + part.width, part.y + part.height};
    struct drm_mode_fb_dirty_cmd dirty = {
        .fb_id = screen->framebuffer,
        .num_clips = 1,
        .clips_ptr = (uintptr_t)&damage,
    };
    // A driver that shows its memory directly answers ENOSYS, and needs nothing.
    call(screen->fd, DRM_IOCTL_MODE_DIRTYFB, &dirty);
}

void screen_move_pointer(struct screen *screen, const uint32_t *scene, int x, int y)
{
    struct rect old = {screen->pointer_x, screen->pointer_y, POINTER_ROWS, POINTER_ROWS};
    screen->pointer_x = x;
    screen->pointer_y = y;
    if (screen->pointer_in_hardware) {
        struct drm_mode_cursor2 move = {
            .flags = DRM_MODE_CURSOR_MOVE,
            .crtc_id = screen->crtc,
            .x = x,
            .y = y,
        };
        call(screen->fd, DRM_IOCTL_MODE_CURSOR2, &move);
        return;
    }
    screen_present(screen, scene, old);
    screen_present(screen, scene, (struct rect){x, y, POINTER_ROWS, POINTER_ROWS});
}
