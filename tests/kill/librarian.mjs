// Uploads new versions of a template, and deletes it where nothing uses it, while parts fall.
import { createHash, randomBytes } from 'node:crypto'
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { command, root, state, vidictl } from '../e2e/stack.mjs'

// So much that an upload and a host's fetch last long enough to be hit.
const TAIL_BYTES = 24 << 20
const [PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX] = [5, 25]
const TRIES_MAX = 60
export const LIBRARY = 'library'

export class Librarian {
  constructor({ ledger, random, stopping, folder }) {
    Object.assign(this, { ledger, random, stopping, folder })
  }

  async run() {
    while (!this.stopping()) {
      await delay(this.random.between(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX) * 1000)
      if (this.stopping()) return
      if (this.ledger.library && this.random.chance(0.2)) await this.remove()
      else await this.upload()
    }
  }

  // A version that was never there before: the micro template with more behind its disk.
  async variant() {
    const micro = (await command(join(root, 'packaging/images/build'), 'micro')).trim().split('\n').at(-1)
    await rm(this.folder, { recursive: true, force: true })
    await mkdir(this.folder, { recursive: true })
    for (const file of await readdir(micro)) await copyFile(join(micro, file), join(this.folder, file))
    const disk = Buffer.concat([await readFile(join(micro, 'disk.qcow2')), randomBytes(TAIL_BYTES)])
    await writeFile(join(this.folder, 'disk.qcow2'), disk)
    const text = await readFile(join(micro, 'template.toml'), 'utf8')
    const digest = createHash('sha256').update(disk).digest('hex')
    await writeFile(join(this.folder, 'template.toml'), text.replace(/(\[disk\][^[]*?sha256 = ")[0-9a-f]{64}/, `$1${digest}`))
    return digest
  }

  // Tries until it is told that the template is there: an upload that broke is begun anew.
  async upload() {
    const digest = await this.variant()
    await this.repeat(['template', 'create', LIBRARY, '--from', this.folder])
    this.ledger.library = digest
    this.ledger.count('upload')
  }

  // Refused while a desktop uses it; whether it is gone is only known when that was said.
  async remove() {
    const before = this.ledger.library
    this.ledger.library = undefined
    const answer = await this.repeat(['template', 'delete', LIBRARY, '--yes'], /delete those first|not found/i)
    if (/not found/i.test(answer) || answer === '') this.ledger.count('template deleted')
    else this.ledger.library = before
  }

  // What the last try said: nothing when it worked, or a refusal that fits `final`.
  async repeat(words, final = /$^/) {
    for (let tries = 1; ; tries++) {
      try {
        await vidictl(...words)
        return ''
      } catch (error) {
        if (final.test(error.message)) return error.message
        if (tries === TRIES_MAX) throw new Error(`${words.join(' ')} did not work in ${TRIES_MAX} tries: ${error.message}`)
        await delay(1000)
      }
    }
  }
}

// After an upload without faults the controller's folder holds whole images only.
export async function strayImages() {
  const files = await readdir(join(state, 'lib/controller/images'))
  return files.filter((file) => !/^[0-9a-f]{64}$/.test(file)).map((file) => ({ text: `the controller's images folder holds ${file}`, lost: false }))
}
