// The installation on which the suite `display` measures: a real one, between whose relay and agent the SPICE
// sockets lead to a screen that is replayed; the peer's server looks at the same screen. Both are reached
// over lines of the tests' own.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { end, quickstart, readPorts, state, until, useVidictl, vidictl, vidictlJson } from '../e2e/stack.mjs'
import { open, signIn } from '../e2e/browser.mjs'
import { freePort } from '../e2e/port.mjs'
import { Person } from '../kill/api.mjs'
import { serveSpiceHtml5 } from './peer.mjs'
import { Line, Replay } from './programs.mjs'
import { closeAll, need } from './suite.mjs'

// What the gateway's part is called on the menu.
const DESKTOP = 'replayed'
export const SPICE_TICKET = 'replay'

export class Stage {
  constructor(suite) {
    this.suite = suite
    this.kept = []
  }

  async setUp() {
    const access = await quickstart('up', '--template', 'micro')
    this.access = access
    useVidictl(access.vidictl)
    await this.makeDesktop()
    const { https_port: port, relay_port: relayPort } = await readPorts()
    Object.assign(this, { port, relayPort })
    await this.startReplay()
    const peer = await serveSpiceHtml5({ spicePort: this.spicePort, ticket: SPICE_TICKET, pids: need('VIDI_BENCH_PIDS') })
    this.keep(() => peer.stop())
    this.peer = peer
    this.line = await this.newLine(port)
    this.peerLine = await this.newLine(peer.port)
    this.person = new Person(port, access.user, access.password, { ended: () => false })
    this.keep(async () => this.person.close())
    await this.person.signIn()
  }

  // What ends with the suite; a part's own things go to suite.closing.
  keep(close) {
    this.kept.push(close)
  }

  tearDown() {
    return closeAll(this.kept)
  }

  // One whose sessions end without switching it off.
  async makeDesktop() {
    const before = await this.desktops()
    await vidictl('desktop', 'create', '--template', 'micro', '--name', DESKTOP, '--user', 'admin', '--after-use', 'keep', '--start', '--wait')
    for (const name of before) await vidictl('desktop', 'delete', name, '--wait')
    this.desktop = (await this.desktops())[0]
  }

  async desktops() {
    return [...new Set(JSON.stringify(await vidictlJson('desktop', 'list')).match(/tenants\/[^"]*\/desktops\/[0-9a-f-]{36}/g) ?? [])]
  }

  // Puts the replayed screen between relay and agent.
  async startReplay() {
    this.spicePort = await freePort()
    const [door, agent] = ['door.sock', 'relay.sock'].map((name) => join(state, 'run', name))
    this.replay = new Replay(['--door', door, '--agent', agent, '--tcp', `127.0.0.1:${this.spicePort}`])
    this.keep(() => this.replay.end())
    await this.replay.ready()
    const file = join(state, 'etc/relay.toml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, text.replace(/^agent_socket = .*$/m, `agent_socket = "${door}"`))
    this.keep(async () => {
      await writeFile(file, text)
      await end('relay', 'SIGTERM')
    })
    await end('relay', 'SIGTERM')
    await quickstart('up')
  }

  async newLine(to, seed) {
    const line = new Line(await freePort(), to, seed)
    this.keep(() => line.end())
    await line.ready()
    return line
  }

  get url() {
    return `https://localhost:${this.line.port}/`
  }

  get peerUrl() {
    return this.peer.at(this.peerLine.port)
  }

  // A browser on our picture, over the line; closed with the part.
  async ours(options) {
    const browser = await open(options)
    this.suite.closing.push(() => browser.close())
    return browser
  }

  // Signs in and opens the desktop; it is shown afterwards.
  async openOurs(page) {
    await signIn(page, this.url, this.access.user, this.access.password)
    await this.clickApp(page)
  }

  async clickApp(page) {
    const app = page.getByTestId('app-list').locator('[data-testid^="app-"]:not([disabled])').first()
    await app.click()
    await this.shown(page)
  }

  async shown(page) {
    const canvas = page.getByTestId('desktop-canvas')
    await canvas.waitFor()
    await until('our picture', async () => (await canvas.getAttribute('data-state')) === 'connected' && Number(await canvas.getAttribute('data-frames')) > 0)
  }

  // A browser on the peer's picture of the same screen.
  async theirs() {
    const browser = await open()
    this.suite.closing.push(() => browser.close())
    await this.openTheirs(browser.page)
    return browser
  }

  async openTheirs(page, url = this.peerUrl) {
    await page.goto(url)
    await until('the peer\'s picture', () => page.evaluate(() => {
      const canvas = document.querySelector('#spice-screen canvas')
      if (!canvas?.width) return false
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
      return data.some((value, at) => at % 4 === 0 && value !== 0)
    }))
  }

  // The sessions that are not over.
  async sessions() {
    const { sessions = [] } = await vidictlJson('session', 'list')
    return sessions.filter(({ state }) => !/ENDED/.test(state)).map(({ name }) => name)
  }

  async releaseAll() {
    for (const session of await this.sessions()) await vidictl('session', 'release', session.split('/').at(-1), '--yes')
    await until('the end of the sessions', async () => (await this.sessions()).length === 0)
  }

  // A session of the person's, for a viewer without a screen.
  async session() {
    const { apps } = await this.person.ask('SessionService/ListApps')
    return this.person.ask('SessionService/OpenApp', { name: apps[0].name, requestId: crypto.randomUUID() })
  }
}
