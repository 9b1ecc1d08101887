// A picture drawn with every record that draws, and what it has to look like.
import { PNG } from 'pngjs'
import * as peer from './display-peer.mjs'

export const SCENE = { width: 300, height: 200 }

// A still of many colours, and the same for browsers: side x side pixels, red, green, blue, 255.
function still(side) {
  const rgba = Buffer.alloc(side * side * 4)
  for (let at = 0; at < side * side; at++) {
    rgba.set([(at * 7) & 255, (at * 13) & 255, (at >> 3) & 255, 255], at * 4)
  }
  return rgba
}

const STILL_SIDE = 50

// The still as the page's own encoder makes it, without loss.
export async function encodeWith(page, mime) {
  const base64 = await page.evaluate(async ([mime, side, pixels]) => {
    const canvas = document.createElement('canvas')
    canvas.width = canvas.height = side
    const data = Uint8ClampedArray.from(atob(pixels), (char) => char.charCodeAt(0))
    canvas.getContext('2d').putImageData(new ImageData(data, side, side), 0, 0)
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, mime, 1))
    if (blob.type !== mime) throw new Error(`${mime} cannot be made here`)
    let text = ''
    for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte)
    return btoa(text)
  }, [mime, STILL_SIDE, still(STILL_SIDE).toString('base64')])
  return Buffer.from(base64, 'base64')
}

function png(rgba, width, height) {
  const image = new PNG({ width, height })
  image.data = rgba
  return PNG.sync.write(image, { colorType: 2 })
}

// Sends the picture in three frames to a viewer; gives its pixels.
export function drawScene(viewer, { webp }) {
  const { width, height } = SCENE
  const wanted = Buffer.alloc(width * height * 4)
  const put = ([x, y, w, h], rgba) => {
    for (let row = 0; row < h; row++) rgba.copy(wanted, ((y + row) * width + x) * 4, row * w * 4, (row + 1) * w * 4)
  }
  const get = ([x, y, w, h]) => {
    const rgba = Buffer.alloc(w * h * 4)
    for (let row = 0; row < h; row++) wanted.copy(rgba, row * w * 4, ((y + row) * width + x) * 4, ((y + row) * width + x + w) * 4)
    return rgba
  }
  const solid = ([, , w, h], [red, green, blue]) => {
    const rgba = Buffer.alloc(w * h * 4)
    for (let at = 0; at < w * h; at++) rgba.set([red, green, blue, 255], at * 4)
    return rgba
  }
  const sent = []
  const fill = (area, colour) => {
    sent.push(peer.fill(area, colour))
    put(area, solid(area, colour))
  }
  const copy = ([x, y, w, h], fromX, fromY) => {
    sent.push(peer.copy([x, y, w, h], fromX, fromY))
    put([x, y, w, h], get([fromX, fromY, w, h]))
  }
  // A letter of few colours; `bits` of each number.
  const palette = ([x, y, w, h], colours, bits) => {
    const rows = []
    const rgba = Buffer.alloc(w * h * 4)
    for (let row = 0; row < h; row++) {
      const bytes = new Array(Math.ceil((w * bits) / 8)).fill(0)
      for (let column = 0; column < w; column++) {
        const colour = (row * 3 + column) % colours.length
        bytes[(column * bits) >> 3] |= colour << (8 - bits - ((column * bits) & 7))
        rgba.set([...colours[colour], 255], (row * w + column) * 4)
      }
      rows.push(...bytes)
    }
    sent.push(peer.image([x, y, w, h], 4, [colours.length - 1, ...colours.flat(), ...rows]))
    put([x, y, w, h], rgba)
  }
  const slots = new Map()
  const keep = (x, y, slot) => {
    sent.push(peer.keep([x, y, slot]))
    const area = [x, y, Math.min(64, width - x), Math.min(64, height - y)]
    slots.set(slot, { w: area[2], h: area[3], rgba: get(area) })
  }
  const recall = (x, y, slot) => {
    sent.push(peer.recall([x, y, slot]))
    const { w, h, rgba } = slots.get(slot)
    put([x, y, w, h], rgba)
  }

  sent.push(peer.size(width, height))
  fill([0, 0, width, height], [10, 60, 110])
  fill([250, 150, 50, 50], [250, 128, 3])
  const side = STILL_SIDE
  sent.push(peer.raw([5, 5, side, side], still(side)))
  put([5, 5, side, side], still(side))
  sent.push(peer.frameEnd(1))
  viewer.send(...sent.splice(0))

  sent.push(peer.image([70, 5, side, side], 1, png(still(side), side, side)))
  put([70, 5, side, side], still(side))
  if (webp) {
    sent.push(peer.image([130, 5, side, side], 2, webp))
    put([130, 5, side, side], still(side))
  }
  copy([20, 20, 120, 90], 5, 5)
  keep(64, 0, 3)
  keep(290, 170, 60)
  fill([64, 0, 80, 80], [1, 2, 3])
  recall(200, 100, 3)
  recall(0, 150, 60)
  sent.push(peer.frameEnd(2))
  viewer.send(...sent.splice(0))

  palette([200, 10, 9, 7], [[255, 255, 255], [0, 0, 0]], 1)
  palette([215, 10, 13, 8], [[1, 2, 3], [200, 100, 50], [9, 99, 199]], 2)
  palette([235, 10, 11, 9], Array.from({ length: 16 }, (_, index) => [index * 16, 255 - index, index]), 4)
  palette([255, 10, 30, 30], Array.from({ length: 200 }, (_, index) => [index, 255 - index, 128]), 8)
  recall(64, 64, 3)
  keep(64, 64, 3)
  recall(140, 120, 3)
  sent.push(peer.frameEnd(3))
  viewer.send(...sent.splice(0))
  return wanted
}

// A moving picture as H.264 (Annex B), by the page's own encoder: [{ key, unit }].
export async function encodeVideo(page, [width, height], frames) {
  const units = await page.evaluate(async ([width, height, frames]) => {
    const canvas = document.createElement('canvas')
    canvas.width = width
    canvas.height = height
    const context = canvas.getContext('2d')
    const units = []
    const encoder = new VideoEncoder({
      output(chunk) {
        const bytes = new Uint8Array(chunk.byteLength)
        chunk.copyTo(bytes)
        let text = ''
        for (const byte of bytes) text += String.fromCharCode(byte)
        units.push({ key: chunk.type === 'key', unit: btoa(text) })
      },
      error(error) {
        throw error
      },
    })
    encoder.configure({ codec: 'avc1.42e01f', width, height, bitrate: 2e6, framerate: 25, latencyMode: 'realtime', avc: { format: 'annexb' } })
    for (let frame = 0; frame < frames; frame++) {
      context.fillStyle = 'rgb(40,90,200)'
      context.fillRect(0, 0, width, height)
      context.fillStyle = 'rgb(230,40,30)'
      context.fillRect(frame * 4, 20, 40, 40)
      const picture = new VideoFrame(canvas, { timestamp: frame * 40_000 })
      encoder.encode(picture, { keyFrame: frame === 0 })
      picture.close()
    }
    await encoder.flush()
    encoder.close()
    return units
  }, [width, height, frames])
  return units.map(({ key, unit }) => ({ key, unit: Buffer.from(unit, 'base64') }))
}

// A photo as JPEG: waves of many colours.
export async function encodePhoto(page, [width, height], seed) {
  const base64 = await page.evaluate(async ([width, height, seed]) => {
    const canvas = document.createElement('canvas')
    canvas.width = width
    canvas.height = height
    const context = canvas.getContext('2d')
    const image = context.createImageData(width, height)
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const wave = Math.sin((x + seed * 9) / 17) * Math.cos((y - seed * 5) / 23)
        image.data.set([128 + 120 * wave, (x + y + seed) & 255, 128 - 90 * wave, 255], (y * width + x) * 4)
      }
    }
    context.putImageData(image, 0, 0)
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/jpeg', 0.8))
    let text = ''
    for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte)
    return btoa(text)
  }, [width, height, seed])
  return Buffer.from(base64, 'base64')
}
