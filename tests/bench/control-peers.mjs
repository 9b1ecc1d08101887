// What a place costs beside two others who give places to virtual machines, on as many hosts of the same size
// and for the same machine: openstack-placement, a server that keeps them in a database, and Ganeti's hspace,
// which computes them. Only in the long form; docs/benchmarks.md says what is not alike.
import { randomUUID } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command, state, until } from '../e2e/stack.mjs'
import { Daemon, Plant } from './control-fleet.mjs'
import { below, processes, processorSeconds } from './processes.mjs'
import { need } from './suite.mjs'

const PORT = 17378
// As vidi-fleet and vidi-decide --plain have them: MiB, GiB.
const HOST = { VCPU: 64, MEMORY_MB: 524288, DISK_GB: 4096 }
const MACHINE = { VCPU: 2, MEMORY_MB: 4096, DISK_GB: 20 }
const VCPUS_PER_CPU = 12
const BATCHES = 5
// Hosts, and claims of one batch: the peer's take tenths of a second.
const PLACEMENT = { hosts: 1000, ours: 400, theirs: 10 }
const HSPACE = { hosts: 100, ours: 20_000, theirs: 40 }

// Claims of openstack-placement beside desktops that are made by a controller on sled: what a server's process
// takes of a processor for each, durable and answered.
export async function placement(suite) {
  const { hosts } = PLACEMENT
  await measured(suite, 'placement_claim', 'ms', 'openstack-placement', [
    async () => {
      const plant = await Plant.start(suite, { hosts })
      return each(async () => (await plant.ask('desktops', PLACEMENT.ours, plant.controller.pid, 600)).cpu_ms_each)
    },
    async () => {
      const server = await Placement.start(suite)
      await server.enroll(hosts)
      return each(async () => {
        const before = await server.processorMs()
        for (let claim = 0; claim < PLACEMENT.theirs; claim++) await server.claim()
        return (await server.processorMs() - before) / PLACEMENT.theirs
      })
    },
  ])
}

// Places that hspace finds beside those that the controller's plan settles; neither is kept anywhere.
export async function hspace(suite) {
  const options = ['--plain', '--hosts', HSPACE.hosts, '--decisions', HSPACE.ours].map(String)
  await measured(suite, 'hspace', 'us', 'ganeti hspace', [
    () => each(async (batch) => {
      const decide = join(need('VIDI_BENCH_PROGRAMS'), 'vidi-decide')
      return JSON.parse(await command(decide, ...options, '--seed', String(batch + 1))).settled_us
    }),
    // What it takes to begin is in both.
    () => each(async () => 1e6 * (await spaced(HSPACE.theirs + 1) - await spaced(1)) / HSPACE.theirs),
  ])
}

// Both, one after the other, and how many times ours theirs is.
async function measured(suite, name, unit, peer, work) {
  const metrics = [`${name}_cpu_ours_${unit}`, `${name}_cpu_peer_${unit}`, `${name}_cpu_ratio`]
  try {
    const values = []
    for (const one of work) {
      values.push(await one())
      await suite.closeAll()
    }
    const [ours, theirs] = values
    suite.figures.add(metrics[0], unit, ours, { name: peer, values: theirs })
    suite.figures.add(metrics[1], unit, theirs)
    suite.figures.add(metrics[2], 'ratio', theirs.map((value, batch) => value / ours[batch]))
  } catch (error) {
    suite.failed(error)
    suite.unmeasured(metrics, error.message)
    await suite.closeAll()
  }
}

async function each(work) {
  const values = []
  for (let batch = 0; batch < BATCHES; batch++) values.push(await work(batch))
  return values
}

// Seconds of a processor in which hspace places so many machines.
async function spaced(count) {
  const host = `${HOST.DISK_GB / 1024}t,${HOST.MEMORY_MB / 1024}g,${HOST.VCPU},1`
  const script = 'export LC_ALL=C TIMEFORMAT="processor %U %S"; exec 2>&1; time "$@"'
  const said = await command('bash', '-c', script, 'bash', 'hspace', '--machine-readable', '--disk-template=plain',
    `--simulate=preferred,${HSPACE.hosts},${host}`, `--max-cpu=${VCPUS_PER_CPU}`, '-l', String(count),
    `--standard-alloc=${MACHINE.DISK_GB}g,${MACHINE.MEMORY_MB / 1024}g,${MACHINE.VCPU}`)
  const placed = /^HTS_ALLOC_INSTANCES=(\d+)$/m.exec(said)?.[1]
  if (Number(placed) !== count) throw new Error(`hspace placed ${placed} of ${count}: ${said.slice(-500)}`)
  const [, user, system] = /^processor ([\d.]+) ([\d.]+)$/m.exec(said)
  return Number(user) + Number(system)
}

// The server as its project documents it, with one worker and its database in a file.
class Placement {
  static async start(suite) {
    const server = new Placement()
    const [programs, folder] = [join(need('VIDI_BENCH_PLACEMENT'), 'bin'), join(state, 'placement')]
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true })
    suite.closing.push(() => rm(folder, { recursive: true, force: true }))
    const config = join(folder, 'placement.conf')
    await writeFile(config, [
      '[placement_database]', `connection = sqlite:///${folder}/placement.db`,
      '[api]', 'auth_strategy = noauth2', '[placement]', 'randomize_allocation_candidates = true', '',
    ].join('\n'))
    await command(join(programs, 'placement-manage'), '--config-file', config, 'db', 'sync')
    server.daemon = new Daemon('env', [
      `OS_PLACEMENT_CONFIG_DIR=${folder}`, join(programs, 'gunicorn'), '-w', '1', '-b', `127.0.0.1:${PORT}`,
      '--no-control-socket', 'placement.wsgi.api:application',
    ], undefined)
    suite.closing.push(() => server.daemon.end())
    await until('openstack-placement', async () => {
      server.daemon.check()
      return server.ask('GET', '/')
    })
    return server
  }

  async enroll(count) {
    const ratios = { VCPU: VCPUS_PER_CPU, MEMORY_MB: 1, DISK_GB: 1 }
    const inventory = ([name, total]) => [name, { total, allocation_ratio: ratios[name] }]
    const inventories = Object.fromEntries(Object.entries(HOST).map(inventory))
    for (let number = 0; number < count; number++) {
      const uuid = randomUUID()
      await this.ask('POST', '/resource_providers', { name: `host-${number}`, uuid })
      await this.ask('PUT', `/resource_providers/${uuid}/inventories`, { resource_provider_generation: 0, inventories })
    }
  }

  // As nova does it: who could, then one of them.
  async claim() {
    const wanted = Object.entries(MACHINE).map(([name, amount]) => `${name}:${amount}`).join(',')
    const { allocation_requests: found } = await this.ask('GET', `/allocation_candidates?resources=${wanted}&limit=10`)
    if (!found.length) throw new Error('openstack-placement has no host left')
    await this.ask('PUT', `/allocations/${randomUUID()}`, {
      allocations: found[0].allocations, consumer_generation: null, consumer_type: 'INSTANCE', project_id: 'bench', user_id: 'bench',
    })
  }

  async processorMs() {
    return 1000 * await processorSeconds(below(await processes(), [this.daemon.pid]).map(({ pid }) => pid))
  }

  async ask(method, path, body) {
    const answer = await fetch(`http://127.0.0.1:${PORT}${path}`, {
      method, body: body && JSON.stringify(body),
      headers: { 'X-Auth-Token': 'admin', 'OpenStack-API-Version': 'placement 1.39', 'Content-Type': 'application/json' },
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text.slice(0, 300)}`)
    return text && JSON.parse(text)
  }
}
