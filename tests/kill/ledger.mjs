// What the clients were told: the only witness when the installation is asked afterwards.

export class Ledger {
  constructor() {
    // By name: {user, policy, destroy: undefined | 'asked' | 'told'}.
    this.desktops = new Map()
    // By desktop: [{from, to, on, maybe}]; apart, since a user may open what its maker was not yet
    // told of. A wish that may be is one that may have come too late to count.
    this.wishes = new Map()
    // By name: {path, body, desktop, from, to, end: undefined | {error, message}}.
    this.operations = new Map()
    // By name: {user, desktop, told, release: undefined | 'asked' | 'told'}.
    this.sessions = new Map()
    // SHA-256 of the disk of the template that was uploaded last; none when it may be gone.
    this.library = undefined
    // {user, desktop, from, to}: when a display was connected to its desktop.
    this.connections = []
    // Sentences: answers that no client should get.
    this.wrong = []
    this.counts = {}
    this.waiting = []
  }

  // Settles when a client asks for a change.
  nextChange() {
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  asked() {
    for (const resolve of this.waiting.splice(0)) resolve()
  }

  count(what) {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }

  wrongOnce(sentence) {
    if (!this.wrong.includes(sentence)) this.wrong.push(sentence)
  }

  desktop(name) {
    return this.desktops.get(name)
  }

  // An operation that a client was told of.
  told(operation, path, body, from) {
    const known = this.operations.get(operation.name)
    const entry = known ?? { path, body, desktop: operation.target, from, to: Date.now(), end: undefined }
    this.operations.set(operation.name, entry)
    this.ended(operation)
    return entry
  }

  ended(operation) {
    const entry = this.operations.get(operation.name)
    if (!operation.done) return
    const end = { error: operation.error?.reason ?? '', message: operation.error?.message ?? '' }
    if (entry.end && (entry.end.error !== end.error || entry.end.message !== end.message)) {
      this.wrong.push(`${operation.name} ended twice: first ${JSON.stringify(entry.end)}, then ${JSON.stringify(end)}`)
    }
    entry.end = end
    entry.endedAt ??= Date.now()
  }

  // A session that its user was told of, asked for since `from`.
  opened({ name, desktop }, user, from) {
    const known = this.sessions.get(name)
    if (!known) this.sessions.set(name, { user, desktop, release: undefined, told: from })
    else if (known.user !== user || known.desktop !== desktop) this.wrong.push(`${name} is ${known.user}'s on ${known.desktop} and ${user}'s on ${desktop}`)
    else if (known.release === 'told') this.wrong.push(`${name} was given to ${user} again after it was released`)
  }

  // A display of a session that has closed.
  connected({ spans }, user, desktop) {
    this.connections.push(...spans.map((span) => ({ user, desktop, ...span })))
  }

  // Somebody begins to want a desktop's power; the answer ends it.
  want(desktop, on, { maybe = false } = {}) {
    const want = { from: Date.now(), to: Infinity, on, maybe }
    this.wants(desktop).push(want)
    return want
  }

  wants(desktop) {
    if (!this.wishes.has(desktop)) this.wishes.set(desktop, [])
    return this.wishes.get(desktop)
  }

  // The answer was a refusal: nothing was wanted.
  unwant(desktop, want) {
    this.wishes.set(desktop, this.wants(desktop).filter((one) => one !== want))
  }

  // What the desktop may be wanted to be: those wishes after which no certain one began.
  finalWishes(desktop) {
    const wants = this.wants(desktop)
    const last = wants.filter((one) => !wants.some((other) => !other.maybe && one.to < other.from))
    return new Set(last.map(({ on }) => on))
  }

  // Whether somebody wanted otherwise while this operation went on.
  wasCrossed(entry, on) {
    const desktop = this.desktops.get(entry.desktop)
    const end = entry.endedAt ?? Infinity
    return desktop?.destroy !== undefined || this.wants(entry.desktop).some((want) => want.on !== on && want.from <= end && entry.from <= want.to)
  }

  // Whether a session may have ended: somebody gave it back, or its desktop went off or away.
  mayHaveEnded({ desktop, release, told }) {
    return release !== undefined || this.desktops.get(desktop)?.destroy !== undefined || this.wants(desktop).some((want) => !want.on && told <= want.to)
  }
}
