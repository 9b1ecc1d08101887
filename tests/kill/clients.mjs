// Those who use the installation while it falls apart: an operator who makes and destroys desktops,
// the user of each, and one whose desktop nobody touches.
import { setTimeout as delay } from 'node:timers/promises'
import { Refused } from './api.mjs'
import { Display } from './display.mjs'
import { LIBRARY } from './librarian.mjs'

const PARENT = 'tenants/default'
const templateOf = (id) => `${PARENT}/templates/${id}`
const PAUSE_SECONDS_MAX = 3
// A guest boots for 5 to 9 s, longer where others use the processors.
const PICTURE_SECONDS_MAX = 25
const STAY_SECONDS_MAX = 8
const SCAN_CODE_A = 0x1e
const ACTIONS = { start: 26, restart: 8, stop: 20, unplug: 20, destroy: 14, wait: 12 }
const POLICIES = { RELEASE_POLICY_KEEP: 50, RELEASE_POLICY_STOP: 35, RELEASE_POLICY_DELETE: 15 }
const METHODS = { start: 'StartDesktop', restart: 'RestartDesktop', stop: 'StopDesktop', unplug: 'StopDesktop', destroy: 'DeleteDesktop' }
// The user's own wish ended a session.
const RELEASED = 'SESSION_END_CAUSE_RELEASED'
const CLOSE_CODES_KNOWN = new Set([1000, 1001, 1005, 1006, 1011, 1012, 1013, 4001, 4002, 4003, 4004])

// The life of one user's desktop, decided by an operator.
export class Owner {
  constructor({ operator, ledger, random, user, stopping }) {
    Object.assign(this, { operator, ledger, random, user: `${PARENT}/users/${user}`, stopping, following: new Set() })
  }

  async run() {
    while (!this.stopping()) {
      const desktop = [...this.ledger.desktops].find(([, one]) => one.user === this.user && one.destroy !== 'told')?.[0]
      if (desktop === undefined) await this.create().catch((error) => this.judgeCreation(error))
      else await this.act(desktop).catch((error) => this.judge(desktop, error))
      await delay(this.random.between(0, PAUSE_SECONDS_MAX) * 1000)
    }
    await Promise.all(this.following)
  }

  // Only of a desktop that its user's release destroys may it be said that it is not there.
  judge(name, error) {
    const desktop = this.ledger.desktop(name)
    if (!(error instanceof Refused) || desktop.destroy === undefined || !['NOT_FOUND', 'WRONG_STATE'].includes(error.reason)) throw error
    if (error.reason === 'NOT_FOUND') desktop.destroy = 'told'
  }

  // Its template may have been deleted meanwhile.
  judgeCreation(error) {
    if (!(error instanceof Refused) || error.reason !== 'NOT_FOUND' || this.ledger.library !== undefined) throw error
  }

  async create() {
    const start = this.random.chance(0.75)
    const policy = this.random.weighted(POLICIES)
    const template = templateOf(this.random.chance(0.4) && this.ledger.library ? LIBRARY : 'micro')
    const body = { parent: PARENT, template, displayName: this.user.split('/').at(-1), assignedUser: this.user, start, releasePolicy: policy }
    const operation = await this.change('DesktopService/CreateDesktop', body, (told, from) => {
      const known = this.ledger.desktop(told.target)
      if (known) this.ledger.wrong.push(`${told.target} was made twice`)
      this.ledger.desktops.set(told.target, { user: this.user, policy, destroy: undefined })
      this.ledger.wants(told.target).push({ from, to: Date.now(), on: start })
    })
    await this.follow(operation)
  }

  async act(name) {
    const action = this.random.weighted(ACTIONS)
    const patient = this.random.chance(0.6)
    if (action === 'wait') return
    const desktop = this.ledger.desktop(name)
    const want = action === 'destroy' ? undefined : this.ledger.want(name, action === 'start' || action === 'restart')
    if (action === 'destroy') desktop.destroy = 'asked'
    const operation = await this.change(`DesktopService/${METHODS[action]}`, { name, ...(action === 'unplug' ? { force: true } : {}) }).catch((error) => {
      // A refusal changes nothing.
      if (want) this.ledger.unwant(name, want)
      throw error
    })
    if (want) want.to = Date.now()
    if (action === 'destroy') desktop.destroy = 'told'
    const following = this.follow(operation)
    if (patient || action === 'destroy') return following
    this.following.add(following)
    following.finally(() => this.following.delete(following))
  }

  // A change with a request id of its own, repeated until it is answered.
  async change(path, body, note = () => {}) {
    const whole = { ...body, requestId: this.random.id() }
    const from = Date.now()
    this.ledger.asked()
    const operation = await this.operator.ask(path, whole)
    this.ledger.count(path)
    note(operation, from)
    this.ledger.told(operation, path, whole, from)
    return operation
  }

  // Waits until an operation has ended, as long as anybody runs.
  async follow({ name }) {
    for (;;) {
      const operation = await this.operator.ask('OperationService/WaitOperation', { name, timeoutSecs: 5 })
      this.ledger.ended(operation)
      if (operation.done) return operation
      if (this.stopping()) return undefined
    }
  }
}

// A person who signs in, opens the desktop, types, and goes in one way or another.
export class User {
  constructor({ person, ledger, random, stopping }) {
    Object.assign(this, { person, ledger, random, stopping, name: `${PARENT}/users/${person.user}` })
  }

  async run() {
    while (!this.stopping()) {
      await this.visit().catch((error) => this.judge(error))
      await delay(this.random.between(0.2, PAUSE_SECONDS_MAX) * 1000)
    }
    this.display?.cut()
    this.person.close()
  }

  // Refusals that follow from what was done meanwhile are no fault.
  judge(error) {
    if (!(error instanceof Refused)) throw error
    const gone = ['NOT_FOUND', 'WRONG_STATE'].includes(error.reason)
    const destroyed = [...this.ledger.desktops.values()].some((one) => one.user === this.name && one.destroy !== undefined)
    if (gone && destroyed) return
    this.ledger.wrong.push(`${this.person.user} was refused: ${error.message}`)
  }

  async visit() {
    const { person, ledger, random } = this
    const stay = random.between(1, STAY_SECONDS_MAX)
    const leaves = random.weighted({ release: 35, close: 30, cut: 20, signOut: 15 })
    if (person.cookie === '') {
      await person.signIn()
      ledger.count('sign in')
    }
    const { apps = [] } = await person.ask('SessionService/ListApps')
    const app = apps.find(({ desktop }) => ledger.desktop(desktop)?.destroy === undefined)
    if (!app) return
    const session = await this.open(app)
    const display = (this.display = new Display(person, session.name))
    if (await display.picture(PICTURE_SECONDS_MAX)) {
      ledger.count('picture')
      const end = performance.now() + stay * 1000
      while (performance.now() < end && !display.socket.destroyed) {
        display.type(SCAN_CODE_A)
        await Promise.race([delay(500), display.closed])
      }
    }
    if (display.socket.destroyed) this.judgeEnd(display)
    await this.leave(leaves, display, session)
  }

  async open({ name, desktop }) {
    const want = this.ledger.want(desktop, true)
    this.ledger.asked()
    try {
      const session = await this.person.ask('SessionService/OpenApp', { name, requestId: this.random.id() })
      this.ledger.count('open')
      this.ledger.opened(session, this.name, want.from)
      if (session.desktop !== desktop) this.ledger.wrong.push(`${name} of ${desktop} opened ${session.desktop}`)
      return session
    } catch (error) {
      // A refusal changes nothing.
      if (error instanceof Refused) this.ledger.unwant(desktop, want)
      throw error
    } finally {
      want.to = Date.now()
    }
  }

  judgeEnd(display) {
    const code = display.closeCode ?? 1006
    this.ledger.count(`close ${code}`)
    if (!CLOSE_CODES_KNOWN.has(code)) this.ledger.wrong.push(`a display closed with ${code}`)
    if (display.upgraded === undefined && display.status !== undefined && display.status < 500) {
      this.ledger.wrong.push(`a display was refused with HTTP ${display.status}`)
    }
  }

  async leave(how, display, { name }) {
    const known = this.ledger.sessions.get(name)
    if (how === 'cut') display.cut()
    else display.leave()
    this.ledger.connected(display, this.name, known.desktop)
    if (how === 'release') await this.release(name, known)
    if (how === 'signOut') {
      await this.person.signOut()
      this.ledger.count('sign out')
    }
  }

  // Gives the session back, and with it what the desktop's policy says.
  async release(name, known) {
    const desktop = this.ledger.desktop(known.desktop)
    const before = desktop?.destroy
    const want = desktop?.policy === 'RELEASE_POLICY_STOP' ? this.ledger.want(known.desktop, false, { maybe: true }) : undefined
    const destroys = desktop?.policy === 'RELEASE_POLICY_DELETE' && before === undefined
    if (destroys) desktop.destroy = 'asked'
    known.release = 'asked'
    this.ledger.asked()
    const { endCause } = await this.person.ask('SessionService/ReleaseSession', { name })
    known.release = 'told'
    this.ledger.count('release')
    const effective = endCause === RELEASED
    if (want) Object.assign(want, { to: Date.now(), maybe: false })
    if (want && !effective) this.ledger.unwant(known.desktop, want)
    if (destroys && desktop.destroy === 'asked') desktop.destroy = effective ? 'told' : before
  }
}

// A user who stays on a desktop that nobody else touches, and must find it as it was.
export class Steady {
  constructor({ person, ledger, stopping }) {
    Object.assign(this, { person, ledger, stopping, longestDark: 0 })
  }

  async begin() {
    await this.person.signIn()
    const { apps = [] } = await this.person.ask('SessionService/ListApps')
    this.app = apps[0]
    this.ledger.desktops.set(this.app.desktop, { user: `${PARENT}/users/${this.person.user}`, policy: undefined, destroy: undefined })
    const want = this.ledger.want(this.app.desktop, true)
    this.session = await this.person.ask('SessionService/OpenApp', { name: this.app.name, requestId: 'steady' })
    want.to = Date.now()
    this.ledger.opened(this.session, this.session.user, want.from)
  }

  async run() {
    let lastSeen = performance.now()
    while (!this.stopping()) {
      const display = new Display(this.person, this.session.name)
      if (await display.picture(PICTURE_SECONDS_MAX)) {
        this.ledger.count('steady picture')
        this.longestDark = Math.max(this.longestDark, (performance.now() - lastSeen) / 1000)
        while (!display.socket.destroyed && !this.stopping()) {
          display.type(SCAN_CODE_A)
          await Promise.race([delay(500), display.closed])
        }
        lastSeen = performance.now()
      }
      const code = display.closeCode
      if (code >= 4000 || code === 1000) this.ledger.wrong.push(`the untouched desktop's display closed with ${code}`)
      display.cut()
      this.ledger.connected(display, this.session.user, this.app.desktop)
      await delay(250)
    }
    this.person.close()
  }
}
