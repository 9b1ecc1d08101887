// Small pictures of pages for the documents: at most 256 colours, as PNG with a palette.
import { PNG } from 'pngjs'
import { deflateSync } from 'node:zlib'

// Colours are counted in cubes of 8 to a side; each cube is shown by its most frequent colour.
const CUBE_BITS = 3
const PALETTE_MAX = 256

export function small(png) {
  const { width, height, data } = PNG.sync.read(png)
  const pixels = new Uint32Array(width * height)
  for (let at = 0; at < pixels.length; at++) pixels[at] = (data[at * 4] << 16) | (data[at * 4 + 1] << 8) | data[at * 4 + 2]
  const palette = choose(pixels)
  const rows = indices(pixels, width, height, palette)
  const head = Buffer.alloc(13)
  head.writeUInt32BE(width, 0)
  head.writeUInt32BE(height, 4)
  // 8 bits, colour type 3: indices into the palette.
  head.set([8, 3, 0, 0, 0], 8)
  const colors = Buffer.from(palette.flatMap((color) => [color >> 16, (color >> 8) & 255, color & 255]))
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk('IHDR', head),
    chunk('PLTE', colors),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

// Each row: filter 0, then the pixels' indices.
function indices(pixels, width, height, palette) {
  const near = new Map()
  const rows = Buffer.alloc(height * (width + 1))
  for (let at = 0; at < pixels.length; at++) {
    const color = pixels[at]
    let index = near.get(color)
    if (index === undefined) near.set(color, (index = nearest(palette, color)))
    rows[Math.floor(at / width) * (width + 1) + 1 + (at % width)] = index
  }
  return rows
}

function choose(pixels) {
  const counts = new Map()
  for (const color of pixels) counts.set(color, (counts.get(color) ?? 0) + 1)
  if (counts.size <= PALETTE_MAX) return [...counts.keys()]
  const cubes = new Map()
  for (const [color, count] of counts) {
    const key = [16, 8, 0].reduce((key, shift) => key * 256 + (((color >> shift) & 255) >> CUBE_BITS), 0)
    const cube = cubes.get(key) ?? { count: 0, best: 0, color }
    cube.count += count
    if (count > cube.best) Object.assign(cube, { best: count, color })
    cubes.set(key, cube)
  }
  return [...cubes.values()].sort((one, other) => other.count - one.count).slice(0, PALETTE_MAX).map(({ color }) => color)
}

function nearest(palette, color) {
  const part = (of, shift) => (of >> shift) & 255
  let best = 0
  let least = Infinity
  palette.forEach((one, index) => {
    const distance = [16, 8, 0].reduce((sum, shift) => sum + (part(one, shift) - part(color, shift)) ** 2, 0)
    if (distance < least) [least, best] = [distance, index]
  })
  return best
}

// PNG, section 5.3.
function chunk(name, body) {
  const typed = Buffer.concat([Buffer.from(name, 'latin1'), body])
  const framed = Buffer.alloc(typed.length + 8)
  framed.writeUInt32BE(body.length, 0)
  typed.copy(framed, 4)
  framed.writeUInt32BE(crc32(typed), typed.length + 4)
  return framed
}

// Node 18 has none of its own.
function crc32(bytes) {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  }
  return (crc ^ 0xffffffff) >>> 0
}
