// A viewer that notes when each byte came: CLOCK_MONOTONIC, which the replayed screen's reports have too.
import { Display } from '../kill/display.mjs'

const FRAME_END = 7
// What puts pixels on the screen: docs/display-protocol.md.
const DRAWS = new Set([3, 4, 5, 6, 17, 18])
const DECODES_WEBP = 1

export class Viewer extends Display {
  constructor(person, session) {
    super(person, session)
    // {at, type} of each record that draws or ends a frame.
    this.seen = []
  }

  hello() {
    const hello = super.hello()
    hello.writeUInt16LE(DECODES_WEBP, 2)
    return hello
  }

  read(data) {
    this.at = Number(process.hrtime.bigint())
    super.read(data)
  }

  records(message) {
    for (let at = 0; at + 8 <= message.length;) {
      const [type, length] = [message[at], message.readUInt32LE(at + 4)]
      if (DRAWS.has(type) || type === FRAME_END) this.seen.push({ at: this.at, type })
      at += 8 + length
    }
    super.records(message)
  }

  // When the last pixel of the first frame that drew between these times came; undefined if none did.
  frameDrawn(from, to) {
    let drawn
    for (const { at, type } of this.seen) {
      if (at < from) continue
      if (to <= at) return drawn
      if (type !== FRAME_END) drawn = at
      else if (drawn !== undefined) return drawn
    }
    return drawn
  }
}
