// Programs beside what is measured: started, told what to do, listened to, ended.
import { spawn } from 'node:child_process'
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../e2e/stack.mjs'
import { need } from './suite.mjs'

const END_SECONDS_MAX = 10

// A program that is told lines and says lines of JSON; `name` is one of programs/src/bin.
export class Program {
  constructor(name, args) {
    this.name = name
    this.events = []
    this.words = ''
    this.child = spawn(join(need('VIDI_BENCH_PROGRAMS'), name), args, { stdio: ['pipe', 'pipe', 'pipe'] })
    // A program that has ended needs no word; what waits for it hears of its end.
    this.child.stdin.on('error', () => {})
    let rest = ''
    this.child.stdout.on('data', (data) => {
      const lines = (rest + data).split('\n')
      rest = lines.pop()
      for (const line of lines) this.take(line)
    })
    this.child.stderr.on('data', (data) => (this.words = (this.words + data).slice(-4096)))
    this.ended = new Promise((resolve) => {
      this.child.on('error', (error) => {
        this.words += error.message
        resolve()
      })
      this.child.on('close', resolve)
    })
    if (this.child.pid) appendFile(need('VIDI_BENCH_PIDS'), `${this.child.pid} ${name}\n`).catch(() => {})
  }

  take(line) {
    try {
      this.events.push(JSON.parse(line))
    } catch {
      this.words = (this.words + line).slice(-4096)
    }
  }

  tell(line) {
    this.child.stdin.write(`${line}\n`)
  }

  // The first report after the first `from` that `wanted` accepts.
  heard(what, wanted, from = 0, seconds = 30) {
    return until(`${this.name}'s word of ${what}`, () => {
      if (this.child.pid === undefined || this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`${this.name} ended: ${this.words.trim()}`)
      }
      return this.events.slice(from).find(wanted)
    }, seconds)
  }

  async end() {
    if (this.child.pid === undefined) return
    this.child.stdin.end()
    this.child.kill('SIGTERM')
    const timer = setTimeout(() => this.child.kill('SIGKILL'), END_SECONDS_MAX * 1000)
    await this.ended
    clearTimeout(timer)
  }
}

// The screen that is replayed.
export class Replay extends Program {
  constructor(args) {
    super('vidi-replay', args)
  }

  ready() {
    return this.heard('readiness', ({ event }) => event === 'ready')
  }

  // Plays a script to its end; gives what was reported meanwhile, and when it began and ended.
  async play(script, seconds, ...area) {
    const from = await this.begin(script, seconds, ...area)
    const ended = await this.heard(`the end of ${script}`, ({ event }) => event === 'ended', from, seconds + 60)
    const reports = this.events.slice(from)
    return { reports, began: reports.find(({ event }) => event === 'began').at, ended: ended.at }
  }

  // Begins a script; gives from which report on it is told of.
  async begin(script, seconds, ...area) {
    const from = this.events.length
    this.tell(['play', script, seconds, ...area].join(' '))
    await this.heard(`the beginning of ${script}`, ({ event }) => event === 'began', from, 60)
    return from
  }
}

// A line between browser and server, clear until it is told otherwise.
export class Line extends Program {
  constructor(port, to, seed = 1) {
    super('vidi-line', ['--listen', `127.0.0.1:${port}`, '--to', `127.0.0.1:${to}`, '--seed', String(seed)])
    this.port = port
  }

  ready() {
    return this.heard('readiness', ({ event }) => event === 'ready')
  }

  // Bytes that went through so far: {up, down}.
  async count() {
    const from = this.events.length
    this.tell('count')
    return this.heard('its count', ({ event }) => event === 'count', from)
  }
}
