// Things to look at, made inside a guest: a web page with a photo, a film.
import { guestAgent, guestRun } from './stack.mjs'

// One part of a file: an argument of a program has at most 128 KiB, and base64 makes it a third longer.
const PART_BYTES = 48 << 10
const FOLDER = '/var/tmp'

// Writes a file into the guest.
async function write(domain, path, bytes) {
  const handle = await guestAgent(domain, 'guest-file-open', { path, mode: 'w' })
  try {
    for (let at = 0; at < bytes.length; at += PART_BYTES) {
      await guestAgent(domain, 'guest-file-write', { handle, 'buf-b64': bytes.subarray(at, at + PART_BYTES).toString('base64') })
    }
  } finally {
    await guestAgent(domain, 'guest-file-close', { handle })
  }
}

// A page of text with a photo; gives its address.
export async function makeWebPage(domain, page) {
  await write(domain, `${FOLDER}/photo.jpg`, await photo(page, 400, 260))
  const words = 'The quick brown fox jumps over the lazy dog. '
  const html = `<html><head><title>A page</title></head><body style="background: #eef2ff">
    <h1>A page to look at</h1><p><img src="photo.jpg" align="right" width="400" height="260">${words.repeat(12)}</p>
    <table border="1"><tr><td style="background: #c33">red</td><td style="background: #3a3">green</td></tr></table>
    <p><small>${words.repeat(6)}</small></p></body></html>`
  await write(domain, `${FOLDER}/page.html`, Buffer.from(html))
  return `file://${FOLDER}/page.html`
}

// A photo as a camera's: smooth shapes and grain, packed as JPEG by the browser.
async function photo(page, width, height) {
  const base64 = await page.evaluate(([width, height]) => {
    const canvas = document.createElement('canvas')
    Object.assign(canvas, { width, height })
    const context = canvas.getContext('2d')
    const image = context.createImageData(width, height)
    for (let at = 0; at < image.data.length; at += 4) {
      const [x, y] = [(at / 4) % width, Math.floor(at / 4 / width)]
      const light = 128 + 60 * Math.sin(x / 23) * Math.cos(y / 31) + 40 * Math.sin((x + y) / 57)
      const grain = ((x * 7919 + y * 104729) % 17) - 8
      image.data.set([light + grain, light * 0.8 + grain, 220 - light / 2 + grain, 255], at)
    }
    context.putImageData(image, 0, 0)
    return canvas.toDataURL('image/jpeg', 0.9).split(',')[1]
  }, [width, height])
  return Buffer.from(base64, 'base64')
}

// A film that plays once, 50 frames in 5 s: a GIF (GIF89a) whose every pixel is a code of its own, as LZW
// allows where it clears its table often enough. Gives its page's address.
export async function makeFilm(domain) {
  const program = `
    my ($w, $h, $frames) = (240, 160, 50);
    open my $out, ">", "${FOLDER}/film.gif" or die; binmode $out;
    print $out "GIF89a", pack("vvCCC", $w, $h, 0xf6, 0, 0);
    print $out pack("CCC", $_ * 2, 255 - $_ * 2, ($_ * 5) % 256) for 0 .. 127;
    for my $f (0 .. $frames - 1) {
      print $out pack("C*", 0x21, 0xf9, 4, 4, 10, 0, 0, 0), pack("CvvvvCC", 0x2c, 0, 0, $w, $h, 0, 7);
      my $data = "";
      for my $y (0 .. $h - 1) {
        for my $x (0 .. $w - 1) {
          $data .= chr 128 if $x % 120 == 0;
          $data .= chr((($x * $y >> 5) + $f * 3 + ($x ^ $y)) & 127);
        }
      }
      $data .= chr 129;
      print $out chr length $1, $1 while $data =~ /(.{1,255})/gs;
      print $out "\\0";
    }
    print $out ";";`
  await write(domain, `${FOLDER}/film.pl`, Buffer.from(program))
  await write(domain, `${FOLDER}/film.html`, Buffer.from('<html><head><title>A film</title></head><body><p>A film</p><img src="film.gif"></body></html>'))
  await guestRun(domain, `perl ${FOLDER}/film.pl`)
  return `file://${FOLDER}/film.html`
}

// Opens an address in the guest's browser, as its user.
export const openInGuest = (domain, address) =>
  guestRun(domain, `su user -c 'setsid netsurf-gtk ${address} >/dev/null 2>&1 </dev/null &'`)
