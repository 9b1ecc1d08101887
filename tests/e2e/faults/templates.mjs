// Templates that are not there, damaged, or no images at all.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { cp, open as openFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command, vidictl, vidictlJson } from '../stack.mjs'
import { ended, fault, folder, microTemplate, noPanic, refusedVidictl, says, state, world } from './common.mjs'

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/

const templates = async () => JSON.stringify(await vidictlJson('template', 'list'))

const desktops = async () => [...new Set(JSON.stringify(await vidictlJson('desktop', 'list')).match(/tenants\/[^"]*\/desktops\/[0-9a-f-]{36}/g) ?? [])]

// A copy of the micro template with `change` applied to its manifest's text.
async function copyOf(name, change = (text) => text) {
  const path = await folder(name)
  await cp(await microTemplate(), path, { recursive: true })
  const manifest = join(path, 'template.toml')
  await writeFile(manifest, change(await readFile(manifest, 'utf8')))
  return path
}

async function overlays(uuid) {
  const [, images] = /^images = "(.*)"$/m.exec(await readFile(join(state, 'etc/agent.toml'), 'utf8'))
  return command('find', images, '-name', `*${uuid}*`)
}

export default function () {
  fault('an unknown template is refused by name', { opens: false }, async () => {
    const before = await desktops()
    const said = await refusedVidictl('desktop', 'create', '--template', 'nope', '--name', 'x', '--start', '--wait')
    says(said, 'nope', /NOT_FOUND|no such|there is no|not found/i)
    assert.deepEqual(await desktops(), before, 'nothing is half made')
  })

  fault('an image with a flipped byte is refused, and nothing is kept of it', { opens: false }, async () => {
    const path = await copyOf('flipped')
    const disk = await openFile(join(path, 'disk.qcow2'), 'r+')
    try {
      const { size } = await disk.stat()
      const byte = Buffer.alloc(1)
      await disk.read(byte, 0, 1, size >> 1)
      byte[0] ^= 0x10
      await disk.write(byte, 0, 1, size >> 1)
    } finally {
      await disk.close()
    }
    const said = await refusedVidictl('template', 'create', 'flipped', '--from', path)
    says(said, 'disk.qcow2', /DIGEST_MISMATCH|digest|sha256/i)
    assert.ok(!(await templates()).includes('/flipped"'), 'it is not listed')
  })

  fault('manifests that are none are refused with a sentence', { opens: false }, async () => {
    for (const [name, change, ...words] of [
      ['m-key', (text) => `colour = "blue"\n${text}`, 'colour'],
      ['m-path', (text) => text.replace('"disk.qcow2"', '"../disk.qcow2"'), '../disk.qcow2'],
      ['m-memory', (text) => text.replace(/memory_mib = \d+/, 'memory_mib = 1'), 'memory_mib'],
      ['m-video', (text) => text.replace('"qxl"', '"tape"'), /tape|video/i],
      ['m-missing', (text) => text.replace('"vmlinuz"', '"nothing"'), 'nothing'],
      ['m-cut', (text) => text.slice(0, 40), 'template.toml'],
    ]) {
      const path = await copyOf(name, change)
      says(await refusedVidictl('template', 'create', name, '--from', path), ...words)
      assert.ok(!(await templates()).includes(`/${name}"`), `${name} is not listed`)
    }
    says(await refusedVidictl('template', 'create', 'm-none', '--from', join(world.folder, 'not-there')), 'not-there')
    says(await refusedVidictl('template', 'create', 'Not A Name', '--from', await microTemplate()), 'Not A Name')
  })

  fault('a disk that is no image: the operation ends with a sentence and leaves nothing', { opens: false }, async () => {
    const text = Buffer.from('this is no qcow2 image\n'.repeat(1000))
    const path = await copyOf('broken', (manifest) =>
      manifest.replace(/(\[disk\]\nfile = "disk.qcow2"\nsha256 = )"[0-9a-f]+"/, `$1"${createHash('sha256').update(text).digest('hex')}"`))
    await writeFile(join(path, 'disk.qcow2'), text)
    const uploaded = await ended(world.vidictl[0], [...world.vidictl.slice(1), 'template', 'create', 'broken', '--from', path])
    if (uploaded.code !== 0) {
      // Better still: refused when it comes in.
      says(uploaded.text, 'disk.qcow2', /qcow2/i)
      return
    }
    const before = await desktops()
    const said = await refusedVidictl('desktop', 'create', '--template', 'broken', '--name', 'broken', '--start', '--wait')
    says(said, /qcow2|image|disk/i)
    noPanic(said, 'vidictl')
    for (const name of (await desktops()).filter((name) => !before.includes(name))) {
      const uuid = UUID.exec(name.split('/').at(-1))[0]
      assert.equal(await overlays(uuid), '', 'no overlay is left')
      await vidictl('desktop', 'delete', name, '--wait')
    }
    assert.deepEqual(await desktops(), before)
    await vidictl('template', 'delete', 'broken')
    assert.ok(!(await templates()).includes('/broken"'))
  })
}
