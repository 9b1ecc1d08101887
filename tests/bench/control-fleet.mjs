// Real controllers on sled and on etcd, each with a fleet of simulated agents (vidi-fleet) that links to it
// over gRPC and mTLS: claims, a hundred thousand desktops, commits.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { appendFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { root, state, until } from '../e2e/stack.mjs'
import { repetitions } from './figures.mjs'
import { Program } from './programs.mjs'
import { need } from './suite.mjs'

const SHORT = repetitions === 1
// Ports of loopback that nothing else here listens on: the controller, its metrics, etcd's members.
const PORT = 17443
const METRICS_PORT = 17441
const ETCD_PORT = 17379
const END_SECONDS_MAX = 20

// 60 hosts of 512 GiB, a morning of 1,200 users, 500 claims in a second; or a tenth of it.
const OFFICE = SHORT ? { hosts: 6, users: 120 } : { hosts: 60, users: 1200 }
const CLAIMS_PER_S = 500
const VOLLEYS = SHORT ? 1 : 3
// A tenth, and a hundred thousand desktops; a pool holds 10,000 at most.
const FLEETS = [{ name: 'fleet_10k', hosts: 500, pools: 1 }, { name: 'fleet_100k', hosts: 5000, pools: 10 }]
const POOL_DESKTOPS = 9_900
const PLACEMENTS = SHORT ? 400 : 4000

// A process of the measurement: written down for whoever cleans up, ended with everything else.
export class Daemon {
  constructor(file, args, log, environment = {}) {
    this.file = file
    this.child = spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...environment } })
    this.words = ''
    this.child.stderr.on('data', (data) => {
      this.words = (this.words + data).slice(-4096)
      if (log) appendFile(log, data).catch(() => {})
    })
    this.ended = new Promise((resolve) => {
      this.child.on('error', (error) => {
        this.words += error.message
        resolve()
      })
      this.child.on('close', resolve)
    })
    if (this.child.pid) appendFile(need('VIDI_BENCH_PIDS'), `${this.child.pid} ${file}\n`).catch(() => {})
  }

  get pid() {
    return this.child.pid
  }

  get hasEnded() {
    return this.child.pid === undefined || this.child.exitCode !== null || this.child.signalCode !== null
  }

  check() {
    if (this.hasEnded) throw new Error(`${this.file} ended: ${this.words.trim()}`)
  }

  async end(signal = 'SIGTERM') {
    if (this.child.pid === undefined) return
    this.child.kill(signal)
    const timer = setTimeout(() => this.child.kill('SIGKILL'), END_SECONDS_MAX * 1000)
    await this.ended
    clearTimeout(timer)
  }
}

// A cluster of etcd on loopback, with everything it writes synced as it is by itself.
async function startEtcd(folder, members) {
  const clients = Array.from({ length: members }, (_, index) => `http://127.0.0.1:${ETCD_PORT + 2 * index}`)
  const peers = Array.from({ length: members }, (_, index) => `http://127.0.0.1:${ETCD_PORT + 2 * index + 1}`)
  const daemons = clients.map((client, index) => new Daemon('etcd', [
    '--name', `m${index}`, '--data-dir', join(folder, `etcd-${index}`), '--log-level', 'error',
    '--listen-client-urls', client, '--advertise-client-urls', client,
    '--listen-peer-urls', peers[index], '--initial-advertise-peer-urls', peers[index],
    '--initial-cluster', peers.map((peer, number) => `m${number}=${peer}`).join(','),
    '--quota-backend-bytes', String(4 << 30),
  ], join(folder, 'etcd.log')))
  const end = () => Promise.all(daemons.map((one) => one.end()))
  try {
    await until('etcd', async () => {
      if (daemons.some((one) => one.hasEnded)) return true
      const answers = await Promise.all(clients.map((client) => fetch(`${client}/health`).then((answer) => answer.json())))
      return answers.every(({ health }) => health === 'true')
    })
    for (const one of daemons) one.check()
  } catch (error) {
    await end()
    throw error
  }
  return { endpoints: clients, end }
}

// What its package's unit says.
async function unitEnvironment() {
  const unit = await readFile(join(root, 'packaging/deb/vidi-controller.service'), 'utf8')
  const words = [...unit.matchAll(/^Environment=(.*)$/gm)].flatMap(([, line]) => line.split(' '))
  return Object.fromEntries(words.map((word) => word.split('=')))
}

// A controller with its store and its fleet.
export class Plant {
  static async start(suite, { members = 0, hosts }) {
    const plant = new Plant()
    plant.folder = join(state, `control-${members}`)
    await rm(plant.folder, { recursive: true, force: true })
    await mkdir(plant.folder, { recursive: true })
    plant.log = join(state, 'log', `controller-${members}.log`)
    await mkdir(join(state, 'log'), { recursive: true })
    suite.closing.push(() => rm(plant.folder, { recursive: true, force: true }))
    // On sled the controller makes it itself.
    if (members > 0) await writeFile(join(plant.folder, 'key'), randomBytes(32).toString('hex'), { mode: 0o600 })
    plant.etcd = members > 0 ? await startEtcd(plant.folder, members) : undefined
    if (plant.etcd) suite.closing.push(plant.etcd.end)
    await plant.startController()
    suite.closing.push(() => plant.controller.end())
    const address = `127.0.0.1:${PORT}`
    plant.fleet = new Program('vidi-fleet', ['--socket', join(plant.folder, 'socket'), '--address', address])
    suite.closing.push(() => plant.fleet.end())
    await plant.fleet.heard('readiness', ({ event }) => event === 'ready')
    plant.linked = await plant.ask('hosts', hosts, 600)
    return plant
  }

  async startController({ wait = true } = {}) {
    const config = join(this.folder, 'controller.toml')
    const store = this.etcd ? ['kind = "etcd"', `endpoints = ${JSON.stringify(this.etcd.endpoints)}`] : ['kind = "sled"']
    await writeFile(config, [
      `state = "${join(this.folder, 'state')}"`, `socket = "${join(this.folder, 'socket')}"`,
      `key_file = "${join(this.folder, 'key')}"`, `listen = "127.0.0.1:${PORT}"`,
      `advertise = ["127.0.0.1:${PORT}"]`, 'id = "bench"', '[store]', ...store,
      '[telemetry]', 'log = "warn"', `listen = "127.0.0.1:${METRICS_PORT}"`, '',
    ].join('\n'))
    const program = join(need('VIDI_BENCH_PROGRAMS'), 'vidi-controller')
    this.controller = new Daemon(program, ['--config', config], this.log, await unitEnvironment())
    if (wait) {
      await until('the controller', async () => {
        return this.controller.hasEnded || (await fetch(`http://127.0.0.1:${METRICS_PORT}/ready`)).ok
      })
      this.controller.check()
    }
  }

  // Tells the fleet a command, with its words and how many seconds it may take; gives its report.
  async ask(command, ...rest) {
    const seconds = rest.pop()
    const from = this.fleet.events.length
    this.fleet.tell([command, ...rest].join(' '))
    const report = await this.fleet.heard(`the end of ${command}`, () => true, from, seconds)
    if (report.error) throw new Error(`${command}: ${report.code} ${report.error}`)
    if (report.event !== command) throw new Error(`${command}: ${JSON.stringify(report)}`)
    console.error(`   ${JSON.stringify(report)}`)
    return report
  }

  // Resident memory of the controller, MiB (proc(5)).
  async rss() {
    const status = await readFile(`/proc/${this.controller.pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)[1]) / 1024
  }
}

const max = (values) => values.reduce((one, other) => Math.max(one, other))
const STORES = [['sled', 0], ['1_node', 1], ['3_nodes', 3]]

// 500 claims in a second of a pool that has a desktop ready for each; then as many as are answered.
export async function claims(suite) {
  const [doubles, refills, rates, cpu] = [[], [], [], []]
  for (const [name, members] of STORES) {
    const metric = `claim_p99_ms_${name}`
    try {
      const plant = await Plant.start(suite, { members, hosts: OFFICE.hosts })
      await plant.ask('users', OFFICE.users, 900)
      const p99 = []
      for (let volley = 0; volley < VOLLEYS; volley++) {
        const [steady, burst] = [`steady-${volley}`, `burst-${volley}`]
        await plant.ask('pool', steady, OFFICE.users, 2 * OFFICE.users, 300)
        const report = await plant.ask('claims', steady, CLAIMS_PER_S, OFFICE.users, plant.controller.pid, 300)
        check(report)
        p99.push(report.p99_ms)
        doubles.push(report.doubles + report.wrong)
        refills.push(report.refill_p99_ms)
        cpu.push(report.cpu_ms_per_claim_and_refill)
        await plant.ask('drop', steady, 300)
        await plant.ask('pool', burst, OFFICE.users, 2 * OFFICE.users, 300)
        const fast = await plant.ask('claims', burst, 0, OFFICE.users, plant.controller.pid, 300)
        check(fast)
        doubles.push(fast.doubles + fast.wrong)
        if (members === 1) rates.push(fast.per_s)
        await plant.ask('drop', burst, 300)
      }
      suite.figures.add(metric, 'ms', p99)
    } catch (error) {
      suite.failed(error)
      suite.unmeasured([metric], error.message)
    }
    await suite.closeAll()
  }
  const or = (metric, unit, values) => (values.length ? suite.figures.add(metric, unit, values) : suite.unmeasured([metric], 'no volley was answered'))
  or('double_claims', 'claims', doubles.length ? [doubles.reduce((one, other) => one + other)] : [])
  or('refill_decided_ms', 'ms', refills.length ? [max(refills)] : [])
  or('claims_per_s', '1/s', rates)
  or('claim_cpu_ms', 'ms', cpu)
}

function check({ count, answered, with_desktop: given, refused, refills }) {
  if (answered !== count || given !== count || refills !== count) {
    throw new Error(`of ${count} claims ${answered} were answered, ${given} with a desktop, ${refills} refilled; refused: ${JSON.stringify(refused)}`)
  }
}

// A fleet and a tenth of it: the controller's memory, its restart, the agents' return.
export async function fleet(suite) {
  for (const size of SHORT ? FLEETS.slice(0, 1) : FLEETS) await oneFleet(suite, size)
}

async function oneFleet(suite, { name, hosts, pools }) {
  const back = name === 'fleet_100k' ? 'fleet_agents_back_s' : `${name}_agents_back_s`
  const metrics = [`${name}_rss_mb`, `${name}_restart_s`, back]
  try {
    const plant = await Plant.start(suite, { hosts })
    await plant.ask('users', 2, 60)
    for (let pool = 0; pool < pools; pool++) {
      await plant.ask('pool', `pool-${pool}`, POOL_DESKTOPS, POOL_DESKTOPS + 100, 1200)
    }
    // Two reports of every agent.
    await delay(20_000)
    const rss = await plant.rss()
    await plant.controller.end('SIGKILL')
    const report = plant.ask('restart', 'pool-0', 0, 300)
    await plant.startController({ wait: false })
    const { first_desktop_s: restarted, agents_back_s: returned } = await report
    suite.figures.add(metrics[0], 'MiB', [rss])
    suite.figures.add(metrics[1], 's', [restarted])
    suite.figures.add(metrics[2], 's', [returned])
    console.error(`   after the restart: ${await plant.rss()} MiB`)
  } catch (error) {
    suite.failed(error)
    suite.unmeasured(metrics, error.message)
  }
  await suite.closeAll()
}

// Desktops that are placed, and the same transactions by the same etcd alone, in turn.
export async function committed(suite) {
  const metrics = ['committed_placements_per_s', 'committed_placements_ratio']
  try {
    const plant = await Plant.start(suite, { members: 1, hosts: OFFICE.hosts })
    const [rates, ratios] = [[], []]
    for (let volley = 0; volley < VOLLEYS; volley++) {
      const pool = `placed-${volley}`
      const report = await plant.ask('committed', pool, PLACEMENTS, plant.etcd.endpoints[0], '/vidi/1/', 600)
      rates.push(report.placements / report.ours_s)
      ratios.push(report.bare_s / report.ours_s)
      await plant.ask('drop', pool, 300)
    }
    suite.figures.add(metrics[0], '1/s', rates)
    suite.figures.add(metrics[1], 'ratio', ratios)
  } catch (error) {
    suite.failed(error)
    suite.unmeasured(metrics, error.message)
  }
  await suite.closeAll()
}
