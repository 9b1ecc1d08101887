// Configurations that cannot work are refused at once, by name.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort } from '../port.mjs'
import { DAEMONS } from '../stack.mjs'
import { Daemon, ended, fault, file, folder, says, state, world } from './common.mjs'

const BAD_CONFIGURATION = 64

const check = (daemon, path) => ended(join(world.bin, `vidi-${daemon}`), ['--config', path, '--check-config'])

export default function () {
  for (const daemon of DAEMONS) {
    fault(`${daemon}: an unknown key is refused by name`, { opens: false }, async () => {
      const good = await readFile(join(state, 'etc', `${daemon}.toml`), 'utf8')
      assert.deepEqual(await check(daemon, await file(`good/${daemon}.toml`, good)), { code: 0, text: '' }, 'the installation\'s own is good')
      for (const [text, ...words] of [
        [`colour = "blue"\n${good}`, 'colour'],
        [`${good}\ncolour = "blue"\n`, 'colour'],
        [good.replace('[telemetry]', '[telemetree]'), 'telemetree'],
        ['state = [\n', daemon],
      ]) {
        const path = await file(`bad/${daemon}.toml`, text)
        const { code, text: said } = await check(daemon, path)
        assert.equal(code, BAD_CONFIGURATION, said)
        says(said, path, ...words)
      }
      const missing = join(world.folder, `missing-${daemon}.toml`)
      const { code, text } = await check(daemon, missing)
      assert.equal(code, BAD_CONFIGURATION, text)
      says(text, missing, /no such file/i)
    })
  }

  fault('controller: a port in use is said, and the first one goes on', { opens: false }, async () => {
    await portInUse('controller', world.ports.grpc_port, async (base, metrics) => `
      state = "${base}/state"
      listen = "127.0.0.1:${world.ports.grpc_port}"
      socket = "${base}/c.sock"
      key_file = "${base}/controller.key"
      [telemetry]
      listen = "127.0.0.1:${metrics}"`)
  })

  fault('controller: a socket in use is said, and the first one goes on', { opens: false }, async () => {
    const socket = join(state, 'run/controller.sock')
    await portInUse('controller', socket, async (base, metrics) => `
      state = "${base}/state2"
      listen = "127.0.0.1:${await freePort()}"
      socket = "${socket}"
      key_file = "${base}/controller.key"
      [telemetry]
      listen = "127.0.0.1:${metrics}"`)
  })

  fault('controller: a state folder in use is said, and the first one goes on', { opens: false }, async () => {
    await portInUse('controller', join(state, 'lib/controller'), async (base, metrics) => `
      state = "${state}/lib/controller"
      listen = "127.0.0.1:${await freePort()}"
      socket = "${base}/c.sock"
      key_file = "${state}/etc/controller.key"
      [telemetry]
      listen = "127.0.0.1:${metrics}"`)
  })

  fault('gateway: a port in use is said, and the first one goes on', {}, async () => {
    await portInUse('gateway', world.ports.https_port, async (base, metrics) => `
      state = "${base}/state"
      [https]
      listen = "0.0.0.0:${world.ports.https_port}"
      [controller]
      addresses = ["127.0.0.1:${world.ports.grpc_port}"]
      socket = "${state}/run/controller.sock"
      id = "second"
      [telemetry]
      listen = "127.0.0.1:${metrics}"`)
  })

  fault('relay: a port in use is said, and the first one goes on', {}, async () => {
    await portInUse('relay', world.ports.relay_port, async (base, metrics) => `
      state = "${base}/state"
      listen = "127.0.0.1:${world.ports.relay_port}"
      agent_socket = "${base}/relay.sock"
      [telemetry]
      listen = "127.0.0.1:${metrics}"`)
  })

  fault('relay: a metrics port in use is said', { opens: false }, async () => {
    await portInUse('relay', world.ports.agent_metrics, async (base) => `
      state = "${base}/state"
      listen = "127.0.0.1:${await freePort()}"
      agent_socket = "${base}/relay.sock"
      [telemetry]
      listen = "127.0.0.1:${world.ports.agent_metrics}"`)
  })
}

async function portInUse(name, what, config) {
  const base = await folder(`in-use-${name}`)
  const daemon = new Daemon(name, await file(`in-use-${name}/${name}.toml`, await config(base, await freePort())))
  const code = await daemon.code()
  await daemon.stop()
  assert.notEqual(code, 0)
  says(daemon.text, String(what))
}
