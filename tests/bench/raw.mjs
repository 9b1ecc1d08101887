// What the gateway costs another viewer: the time that it adds to an echo of the SPICE server, beside a client
// that reaches the same server directly, and the memory of its process for each set of channels.
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { vidictl } from '../e2e/stack.mjs'
import { Bytes, CHANNELS, framed, link, message, tunnel } from '../e2e/spice.mjs'
import { makeMachines, resident } from './display-memory.mjs'
import { repetitions } from './figures.mjs'
import { quantile } from './screen.mjs'
import { SPICE_TICKET } from './stage.mjs'

const SHORT = repetitions === 1
const ECHOES = SHORT ? 100 : 1000
const ROUNDS = SHORT ? 1 : 5
const SESSIONS = SHORT ? 4 : 20

// spice/enums.h, spice.proto
const MAIN_INIT = 103
const MAIN_ATTACH_CHANNELS = 104
const DISPLAY_INIT = 101
const SET_ACK = 3
const ACK_SYNC = 1
const MOUSE_MOTION = 111
const MOTION_ACK = 111
// A server answers so many motions with one word.
const MOTIONS_PER_ACK = 4

export async function measureRaw(stage) {
  await vidictl('desktop', 'update', uuid(stage.desktop), '--raw', 'on')
  stage.suite.closing.push(() => vidictl('desktop', 'update', uuid(stage.desktop), '--raw', 'off'))
  await echo(stage)
  await memory(stage)
}

async function echo({ suite, person, port, spicePort, desktop }) {
  const added = []
  for (let round = 0; round < ROUNDS; round++) {
    const direct = await Channels.direct(spicePort)
    const through = await Channels.through(person, port, uuid(desktop))
    const [near, far] = [[], []]
    // One after the other, so that both meet the same machine.
    for (let count = 0; count < ECHOES; count++) {
      near.push(await direct.echo())
      far.push(await through.echo())
    }
    direct.close()
    through.close()
    added.push(quantile(far, 0.99) - quantile(near, 0.99))
  }
  suite.figures.add('raw_added_p99_ms', 'ms', added)
}

// Machines that are the replayed screen: each a session of its own.
async function memory(stage) {
  const { suite, person, port } = stage
  const machines = await makeMachines(stage, SESSIONS, { password: SPICE_TICKET, displayPolicy: { raw: 'PERMISSION_ALLOWED' } })
  const open = async (machines) => {
    const sets = []
    for (const { name } of machines) sets.push(await Channels.through(person, port, uuid(name)))
    return sets
  }
  // What is taken once, for the first of them all, is not a session's.
  for (const set of await open(machines.slice(0, 2))) set.close()
  await delay(2000)
  const before = await resident()
  const sets = await open(machines)
  await delay(2000)
  suite.figures.add('raw_rss_kib_per_session', 'KiB', [(await resident() - before) / SESSIONS])
  for (const set of sets) set.close()
}

// Main, picture, inputs and pointer of one session.
class Channels {
  static async direct(port) {
    const open = () => new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(new Bytes(socket)))
      socket.setNoDelay(true)
      socket.on('error', reject)
    })
    return new Channels(open, SPICE_TICKET).link()
  }

  static async through(person, port, desktop) {
    const { status, body } = await person.http('POST', `/spice/${desktop}`, { cookie: person.cookie })
    if (status !== 200) throw new Error(`no ticket: ${status} ${body}`)
    const open = async () => {
      const { code, socket } = await tunnel(`https://127.0.0.1:${port}`, desktop)
      if (code !== 200) throw new Error(`no tunnel: ${code}`)
      return socket
    }
    return new Channels(open, JSON.parse(body).password).link()
  }

  constructor(open, ticket) {
    Object.assign(this, { open, ticket, streams: [] })
  }

  async link() {
    const main = await this.channel(CHANNELS.main, 0)
    let init
    while (init?.type !== MAIN_INIT) {
      init = await message(main)
      if (!init) throw new Error('main ended')
    }
    main.write(framed(MAIN_ATTACH_CHANNELS))
    this.drain(main).catch(() => {})
    const connection = init.body.readUInt32LE(0)
    const display = await this.channel(CHANNELS.display, connection)
    display.write(framed(DISPLAY_INIT, Buffer.alloc(14)))
    this.drain(display).catch(() => {})
    this.inputs = await this.channel(CHANNELS.inputs, connection)
    this.drain(await this.channel(CHANNELS.cursor, connection)).catch(() => {})
    return this
  }

  async channel(kind, connection) {
    const stream = await this.open()
    this.streams.push(stream)
    const error = await link(stream, this.ticket, { kind, connection })
    if (error !== 0) throw new Error(`channel ${kind} is refused: ${error}`)
    return stream
  }

  // Takes what comes, and says so where the server wants to know.
  async drain(stream) {
    let left
    let window
    for (let one; (one = await message(stream));) {
      if (one.type === SET_ACK) {
        window = one.body.readUInt32LE(4)
        left = window
        stream.write(framed(ACK_SYNC, one.body.subarray(0, 4)))
      } else if (left !== undefined && --left === 0) {
        left = window
        stream.write(framed(2))
      }
    }
  }

  // Milliseconds from movements of the mouse to the server's word that it took them.
  async echo() {
    const motions = Buffer.concat(Array(MOTIONS_PER_ACK).fill(framed(MOUSE_MOTION, Buffer.alloc(10))))
    const began = performance.now()
    this.inputs.write(motions)
    for (let said; said?.type !== MOTION_ACK;) {
      said = await message(this.inputs)
      if (!said) throw new Error('inputs ended')
    }
    return performance.now() - began
  }

  close() {
    for (const stream of this.streams) stream.close()
  }
}

const uuid = (name) => name.split('/').at(-1)
