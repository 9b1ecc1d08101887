// A full disk, and a libvirt that is not there.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { until } from '../stack.mjs'
import { freePort } from '../port.mjs'
import { Daemon, ended, fault, file, folder, microTemplate, noPanic, says, secondController, smallDisk, world } from './common.mjs'

const URI = 'qemu+unix:///system?socket=/nonexistent/libvirt-sock'

async function filesBelow(path) {
  const found = await readdir(path, { recursive: true, withFileTypes: true })
  return found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

// A template that takes almost no room: {path, digest of its one file}.
async function smallTemplate() {
  const disk = 'small'
  const digest = createHash('sha256').update(disk).digest('hex')
  await file('small/disk.qcow2', disk)
  const manifest = await file('small/template.toml', [
    'name = "small"', '[disk]', 'file = "disk.qcow2"', `sha256 = "${digest}"`,
    '[guest]', 'memory_mib = 64', 'vcpus = 1', 'video = "qxl"', 'ready = "helper"',
  ].join('\n'))
  return { path: dirname(manifest), digest }
}

// What lies there is named by the digest of its bytes: nothing is half.
async function wholeFilesOnly(path) {
  for (const name of await filesBelow(path)) {
    assert.equal(basename(name), createHash('sha256').update(await readFile(name)).digest('hex'), `${name} is not whole`)
  }
}

export default function () {
  fault('a full images disk: the upload fails with a sentence and leaves nothing', { opens: false }, async () => {
    const images = join(world.folder, 'full/images')
    const away = await smallDisk(images, '4m')
    let second
    try {
      second = await secondController('full', { images })
      const { code, text } = await second.vidictl('template', 'create', 'micro', '--from', await microTemplate())
      assert.notEqual(code, 0, text)
      says(text, /space|full|disk/i)
      noPanic(text, 'vidictl')
      await wholeFilesOnly(images)
      const listed = await second.vidictl('template', 'list', '-o', 'json')
      assert.ok(listed.code === 0 && !listed.text.includes('/templates/micro"'), listed.text)
      await second.daemon.answers(second.metrics, 'live')
      await second.stop()
      second = await secondController('full', { images })
      const small = await smallTemplate()
      assert.deepEqual(await second.vidictl('template', 'create', 'small', '--from', small.path).then(({ code }) => code), 0)
      assert.deepEqual((await filesBelow(images)).map((name) => basename(name)), [small.digest], 'the next upload clears away what the failed one left')
    } finally {
      await second?.stop()
      await away()
    }
  })

  fault('a full state disk: a change is refused with a sentence, and what was there is still there', { opens: false }, async () => {
    const stateFolder = join(world.folder, 'fullstate/state')
    const away = await smallDisk(stateFolder, '128m')
    let second
    try {
      second = await secondController('fullstate', { stateFolder })
      const made = await createUser(second, 'before')
      assert.equal(made.code, 0, made.text)
      await writeFile(join(stateFolder, 'filler'), createReadStream('/dev/zero')).catch((error) => assert.equal(error.code, 'ENOSPC'))
      const refused = await createUser(second, 'during')
      assert.notEqual(refused.code, 0, 'a full disk is noticed')
      says(refused.text, /disk/i, /room|space/i)
      noPanic(refused.text, 'vidictl')
      await ended('rm', [join(stateFolder, 'filler')])
      assert.equal((await createUser(second, 'after')).code, 0, 'with room again, changes are taken again')
      await second.stop()
      second = await secondController('fullstate', { stateFolder })
      const listed = await second.vidictl('user', 'list', '-o', 'json')
      for (const [name, there] of [['before', true], ['during', false], ['after', true]]) {
        assert.equal(listed.text.includes(`/users/${name}"`), there, `${name}: ${listed.text}`)
      }
    } finally {
      await second?.stop()
      await away()
    }
  })

  fault('an agent without libvirt says which and what to do, in log and on the host', { opens: false }, async () => {
    const second = await secondController('nolibvirt')
    const base = await folder('nolibvirt/agent')
    const metrics = await freePort()
    const agent = new Daemon('agent', await file('nolibvirt/agent.toml', `
      state = "${base}/state"
      images = "${base}/images"
      libvirt = "${URI}"
      acceleration = "tcg"
      relay_socket = "${base}/relay.sock"
      [relay]
      port = ${await freePort()}
      [controller]
      addresses = ["127.0.0.1:${second.grpc}"]
      socket = "${second.socket}"
      id = "lonely"
      [telemetry]
      listen = "127.0.0.1:${metrics}"`))
    try {
      await agent.answers(metrics, 'live')
      await until('the agent\'s word on libvirt', () => {
        agent.lives()
        return agent.text.includes('/nonexistent/libvirt-sock')
      })
      const problem = await until('the problem on the host', async () => {
        const { text } = await second.vidictl('host', 'list', '-o', 'json')
        return /"problems":\s*\[\s*"([^"]+)/.exec(text)?.[1]
      })
      says(problem, 'libvirt', URI)
      const { code, text } = await second.vidictl('template', 'create', 'micro', '--from', await microTemplate())
      assert.equal(code, 0, text)
      const made = await second.vidictl('desktop', 'create', '--template', 'micro', '--name', 'waits', '--start')
      assert.equal(made.code, 0, made.text)
      const reason = await until('the reason why the desktop waits', async () => {
        const listed = await second.vidictl('desktop', 'list', '-o', 'json')
        return /"reason":\s*"([^"]+)/.exec(listed.text)?.[1]
      })
      says(reason, 'lonely', /no host/i)
      agent.lives()
    } finally {
      await agent.stop()
      await second.stop()
    }
  })
}

const createUser = (controller, name) =>
  ended(world.vidictl[0], ['--socket', controller.socket, 'user', 'create', name, '--role', 'user'], { input: 'a long enough password\n' })
