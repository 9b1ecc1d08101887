// Reads the PNG pictures that QEMU writes: 8 bits a channel, RGB, not interlaced (W3C PNG, third edition).
import { inflateSync } from 'node:zlib'

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
const BYTES_PER_PIXEL = 3

export const isPng = (bytes) => bytes.subarray(0, SIGNATURE.length).equals(SIGNATURE)

// {width, height, rgb} of the file's bytes.
export function png(bytes) {
  if (!isPng(bytes)) throw new Error('the picture is not a PNG')
  let head
  const parts = []
  // Chunks (5.3): length, type, data, checksum.
  for (let at = SIGNATURE.length; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at)
    const type = bytes.toString('latin1', at + 4, at + 8)
    const data = bytes.subarray(at + 8, at + 8 + length)
    if (type === 'IHDR') head = data
    if (type === 'IDAT') parts.push(data)
    at += length + 12
  }
  const [width, height] = [head.readUInt32BE(0), head.readUInt32BE(4)]
  if (head[8] !== 8 || head[9] !== 2 || head[12] !== 0) throw new Error('the picture is no plain PNG of 24 bits')
  const filtered = inflateSync(Buffer.concat(parts))
  const stride = width * BYTES_PER_PIXEL
  if (filtered.length !== (stride + 1) * height) throw new Error('the picture is cut short')
  const rgb = Buffer.alloc(stride * height)
  for (let row = 0; row < height; row++) {
    const from = row * (stride + 1)
    unfilter(filtered[from], filtered.subarray(from + 1, from + 1 + stride), rgb, row * stride, stride)
  }
  return { width, height, rgb }
}

// Filters (9.2): each byte was written as its difference from a guess by its neighbours.
function unfilter(filter, line, rgb, start, stride) {
  for (let at = 0; at < stride; at++) {
    const left = at < BYTES_PER_PIXEL ? 0 : rgb[start + at - BYTES_PER_PIXEL]
    const up = start === 0 ? 0 : rgb[start + at - stride]
    const upLeft = start === 0 || at < BYTES_PER_PIXEL ? 0 : rgb[start + at - stride - BYTES_PER_PIXEL]
    rgb[start + at] = line[at] + guess(filter, left, up, upLeft)
  }
}

function guess(filter, left, up, upLeft) {
  switch (filter) {
    case 0: return 0
    case 1: return left
    case 2: return up
    case 3: return (left + up) >> 1
    case 4: {
      const [toLeft, toUp, toUpLeft] = [Math.abs(up - upLeft), Math.abs(left - upLeft), Math.abs(left + up - 2 * upLeft)]
      if (toLeft <= toUp && toLeft <= toUpLeft) return left
      return toUp <= toUpLeft ? up : upLeft
    }
    default: throw new Error(`the picture has an unknown filter ${filter}`)
  }
}
