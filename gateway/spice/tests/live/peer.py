"""What spice-gtk draws of a SPICE server, as a program: `peer.py URI COMPRESSION FILE`.

It writes "shown" once there is a picture, and FILE (PPM) and "written" for each line that comes in, when
nothing was drawn for a while. COMPRESSION is a number of SpiceImageCompression; 0 leaves it to the server.
"""

import ctypes
import sys

import gi

gi.require_version("SpiceClientGLib", "2.0")
from gi.repository import GLib, GObject, SpiceClientGLib as Spice  # noqa: E402

QUIET_MS = 120


class Peer:
    def __init__(self, uri, compression, file):
        self.compression, self.file = compression, file
        self.picture = None
        self.waiting = 0
        self.drawn = 0
        self.loop = GLib.MainLoop()
        self.session = Spice.Session(uri=uri)
        GObject.Object.connect(self.session, "channel-new", self.channel)
        GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, self.asked)
        Spice.Session.connect(self.session)

    def channel(self, _session, channel):
        if isinstance(channel, Spice.MainChannel):
            GObject.Object.connect(channel, "channel-event", self.event)
        if isinstance(channel, Spice.DisplayChannel):
            listen = lambda name, call: GObject.Object.connect(channel, name, call)
            listen("channel-event", self.opened)
            listen("display-primary-create", self.created)
            listen("display-invalidate", self.invalidated)
            Spice.Channel.connect(channel)

    def event(self, _channel, event):
        if event not in (Spice.ChannelEvent.OPENED, Spice.ChannelEvent.NONE):
            sys.exit(f"the main channel says {event.value_nick}")

    def opened(self, channel, event):
        if event == Spice.ChannelEvent.OPENED and self.compression:
            Spice.DisplayChannel.display_channel_change_preferred_compression(channel, self.compression)

    def created(self, _channel, _format, width, height, stride, _shared, pixels):
        self.picture = (width, height, stride, pixels)

    def invalidated(self, *_where):
        self.drawn += 1
        if self.drawn == 1:
            print("shown", flush=True)

    def asked(self, source, _condition):
        if not source.readline():
            self.loop.quit()
            return False
        self.wait(self.drawn)
        return True

    def wait(self, before):
        def look():
            if self.drawn == before:
                self.write()
            else:
                self.wait(self.drawn)
            return False

        GLib.timeout_add(QUIET_MS, look)

    def write(self):
        width, height, stride, pixels = self.picture
        data = ctypes.string_at(pixels, stride * height)
        rows = []
        for y in range(height):
            row = data[y * stride : y * stride + 4 * width]
            rgb = bytearray(3 * width)
            rgb[0::3], rgb[1::3], rgb[2::3] = row[2::4], row[1::4], row[0::4]
            rows.append(bytes(rgb))
        with open(self.file, "wb") as out:
            out.write(b"P6\n%d %d\n255\n" % (width, height) + b"".join(rows))
        print("written", flush=True)


Peer(sys.argv[1], int(sys.argv[2]), sys.argv[3]).loop.run()
