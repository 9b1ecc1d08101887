// One id from the click through all daemons' logs; nothing secret in any of them; metrics as the
// manual says; health that follows what happens.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Console, domains, kill9, pid, quickstart, root, state, until, useVidictl, vidictl, vidictlJson } from './stack.mjs'
import { connected, open, openFirstApp, signIn } from './browser.mjs'

const DAEMONS = ['controller', 'agent', 'relay', 'gateway']
const WRONG = 'wrong-Pa55word-never-logged'
const TYPED = 'typed secret never logged 7319'

let access, browser, page, console_, ports, token
const began = {}

before(async () => {
  access = await quickstart('up')
  useVidictl(access.vidictl)
  // Sessions of the tests before have a trace of their own: this one begins with a click.
  for (const daemon of DAEMONS) {
    const file = join(state, 'etc', `${daemon}.toml`)
    const text = await readFile(file, 'utf8')
    if (!text.includes('log_format')) await writeFile(file, text.replace('[telemetry]', '[telemetry]\nlog_format = "json"\nlog = "info,vidi=debug"'))
    process.kill(await pid(daemon), 'SIGTERM')
  }
  for (const daemon of DAEMONS) {
    await ended(daemon)
    began[daemon] = (await stat(join(state, 'log', `${daemon}.log`))).size
  }
  access = await quickstart('up')
  ports = Object.fromEntries(
    (await readFile(join(state, 'etc/ports'), 'utf8')).split('\n').map((line) => line.split('=')),
  )
  // No session, and the desktop is off: the click has everything to do.
  const { sessions } = await vidictlJson('session', 'list')
  for (const { name, state: at } of sessions) {
    if (at !== 'SESSION_STATE_ENDED') await vidictl('session', 'release', name.split('/').at(-1))
  }
  const { desktops } = await vidictlJson('desktop', 'list')
  assert.equal(desktops.length, 1, 'quickstart leaves one desktop')
  await vidictl('desktop', 'stop', desktops[0].name.split('/').at(-1), '--force', '--wait')
  assert.deepEqual(await domains(), [])
  browser = await open()
  page = browser.page
})

after(async () => {
  console_?.close()
  await browser?.close()
})

async function ended(daemon) {
  const file = join(state, 'run', `${daemon}.pid`)
  const id = Number(await readFile(file, 'utf8'))
  await until(`the end of ${daemon}`, async () => {
    const line = await readFile(`/proc/${id}/stat`, 'utf8').catch(() => ') Z')
    return line.split(') ')[1].startsWith('Z')
  })
}

// The daemon's lines since these tests began: [{line, fields}].
async function lines(daemon) {
  const text = (await readFile(join(state, 'log', `${daemon}.log`))).subarray(began[daemon]).toString('utf8')
  return text.split('\n').filter(Boolean).map((line) => {
    try {
      return { line, fields: JSON.parse(line) }
    } catch {
      return { line, fields: undefined }
    }
  })
}

const of = async (daemon, trace) => (await lines(daemon)).filter(({ fields }) => fields?.trace === trace)
const http = (daemon, path) => fetch(`http://127.0.0.1:${ports[`${daemon}_metrics`]}${path}`)

test('one click is found by one id in the logs of gateway, controller, agent and relay', async () => {
  await signIn(page, access.url, access.user, WRONG)
  await page.getByTestId('login-error').waitFor()
  const clicked = page.waitForRequest((request) => request.url().endsWith('/vidi.v1.SessionService/OpenApp'))
  await signIn(page, access.url, access.user, access.password)
  await openFirstApp(page)
  const header = (await clicked).headers().traceparent
  assert.match(header, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
  const trace = header.split('-')[1]
  for (const daemon of DAEMONS) {
    const found = await until(`the click's id in the log of ${daemon}`, async () => {
      const found = await of(daemon, trace)
      return found.length > 0 && found
    }, 20)
    if (daemon === 'agent') {
      const started = found.some(({ fields }) => fields.message === 'Desktop started' && fields.desktop)
      assert.ok(started, `the start that the click made: ${found.map(({ line }) => line).join('\n')}`)
    }
    assert.ok(found.every(({ fields }) => fields.timestamp && fields.level && fields.target && fields.message))
  }
  // The session keeps it: another viewer, another attachment, the same id.
  const before = (await of('relay', trace)).length
  await page.reload()
  await connected(page)
  await kill9('relay')
  await quickstart('up')
  await connected(page, 60)
  await until('the id in the new relay', async () => (await of('relay', trace)).length > before, 60)
  token = (await browser.context.cookies()).find(({ name }) => name === '__Host-vidi').value
})

test('vidictl names the id of what was refused, and the controller\'s log has it', async () => {
  const refused = await vidictl('desktop', 'create', '--template', 'there-is-none', '--name', 'x')
    .then(() => assert.fail('it was not refused'), (error) => error.stderr)
  const trace = /^trace: ([0-9a-f]{32})$/m.exec(refused)?.[1]
  assert.ok(trace, refused)
  await until('the id in the log of the controller', async () => (await of('controller', trace)).length > 0, 10)
})

test('no line of any log has a password, a token, or what was typed', async () => {
  const domain = (await domains())[0]
  console_ = await Console.open(domain)
  await page.getByTestId('desktop-canvas').click({ position: { x: 5, y: 5 } })
  const from = console_.lines.length
  await page.keyboard.type(TYPED, { delay: 20 })
  await page.keyboard.press('Enter')
  await console_.said(new RegExp(`line ${TYPED}$`), from)
  assert.ok(token.length > 20)
  for (const daemon of DAEMONS) {
    const all = await lines(daemon)
    assert.ok(all.length > 3, `${daemon} has said ${all.length} lines`)
    const broken = all.filter(({ fields }) => !fields)
    assert.deepEqual(broken.map(({ line }) => line), [], `${daemon}: each line is a JSON object`)
    assert.ok(all.some(({ fields }) => fields.level === 'DEBUG') || daemon === 'relay', `${daemon} tells details`)
    // The whole run, what the tests before did too.
    const whole = (await readFile(join(state, 'log', `${daemon}.log`), 'utf8')).split('\n')
    for (const secret of [WRONG, access.password, token, TYPED, TYPED.split(' ')[0]]) {
      assert.deepEqual(whole.filter((line) => line.includes(secret)), [], `${daemon} tells a secret`)
    }
  }
})

// {name: {type, labels}} of one section of the manual.
async function manual(daemon) {
  const text = await readFile(join(root, 'docs/operations.md'), 'utf8')
  const section = (heading) => text.split(`### Metrics of ${heading}\n`)[1].split('\n#')[0]
  const rows = `${section(`vidi-${daemon}`)}\n${section('every daemon')}`.split('\n').filter((line) => line.startsWith('| `'))
  return new Map(rows.map((line) => {
    const [, name, type, labels] = line.split('|').map((cell) => cell.trim().replaceAll('`', ''))
    return [name, { type, labels: labels ? labels.split(', ') : [] }]
  }))
}

test('every daemon exports what the manual says, and nothing else', async () => {
  // Only what cannot be made to happen here may be missing: its labels come with the first time.
  const rare = new Set(['vidi_task_panics_total', 'vidi_agent_libvirt_errors_total'])
  for (const daemon of DAEMONS) {
    const response = await http(daemon, '/metrics')
    const text = await response.text()
    assert.match(response.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
    const told = await manual(daemon)
    const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]))
    const helped = new Set([...text.matchAll(/^# HELP (\S+) \S/gm)].map(([, name]) => name))
    for (const [name, type] of types) {
      assert.equal(told.get(name)?.type, type, `${daemon}: ${name} is not in the manual as a ${type}`)
      assert.ok(helped.has(name), `${daemon}: ${name} has no HELP`)
    }
    for (const name of told.keys()) {
      assert.ok(types.has(name) || rare.has(name), `${daemon}: ${name} of the manual is not exported`)
    }
    for (const [, name, labels] of text.matchAll(/^([a-z_]+)\{(.*)\} /gm)) {
      const own = [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label).filter((label) => label !== 'le')
      const base = told.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '')
      assert.deepEqual(own.sort(), [...told.get(base).labels].sort(), `${daemon}: labels of ${name}`)
      assert.doesNotMatch(labels, /[0-9a-f]{8}-[0-9a-f]{4}-/, `${daemon}: ${name} names one thing of many`)
    }
  }
})

// The value of one series; labels as they are written.
async function value(daemon, series) {
  const text = await (await http(daemon, '/metrics')).text()
  const line = text.split('\n').find((line) => line.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.split(' ')[1])
}

test('the figures are those of what happened', async () => {
  const at = async (daemon, series, check) => until(`${series} of ${daemon}`, async () => check(await value(daemon, series)), 20)
  await at('controller', 'vidi_controller_leading', (is) => is === 1)
  await at('controller', 'vidi_controller_hosts{state="connected"}', (is) => is === 1)
  await at('controller', 'vidi_controller_gateways', (is) => is === 1)
  await at('controller', 'vidi_controller_sessions{state="connected"}', (is) => is === 1)
  await at('controller', 'vidi_controller_desktops{tenant="default",power="running"}', (is) => is === 1)
  await at('controller', 'vidi_controller_sign_in_attempts_total{result="wrong"}', (is) => is >= 1)
  await at('controller', 'vidi_controller_store_bytes', (is) => is > 1000)
  await at('agent', 'vidi_agent_desktops{power="running"}', (is) => is === 1)
  await at('agent', 'vidi_agent_libvirt_up', (is) => is === 1)
  await at('agent', 'vidi_agent_host_memory_bytes{kind="total"}', (is) => is > 1 << 28)
  await at('relay', 'vidi_relay_attachments', (is) => is === 1)
  await at('relay', 'vidi_relay_channels', (is) => is === 4)
  await at('relay', 'vidi_relay_bytes_total{direction="to_gateway"}', (is) => is > 10_000)
  await at('gateway', 'vidi_gateway_viewers', (is) => is === 1)
  await at('gateway', 'vidi_gateway_first_picture_seconds_count{since="click"}', (is) => is === 1)
  await at('gateway', 'vidi_gateway_reconnects_total', (is) => is >= 1)
  await at('gateway', 'vidi_gateway_frames_total', (is) => is > 1)
  await at('gateway', 'vidi_gateway_websocket_bytes_total{direction="to_browser"}', (is) => is > 10_000)
})

test('live and ready follow what happens, with the reason', async () => {
  for (const daemon of DAEMONS) {
    for (const path of ['/live', '/ready']) {
      await until(`${daemon}${path}`, async () => {
        const response = await http(daemon, path)
        assert.equal(await response.text(), `${path.slice(1)}\n`)
        return response.status === 200
      }, 30)
    }
  }
  const notReady = (daemon, reason) => until(`${daemon} says why it is not ready`, async () => {
    const response = await http(daemon, '/ready')
    const text = await response.text()
    return response.status === 503 && text.startsWith('not ready\n') && text.includes(reason)
  }, 60)
  await kill9('controller')
  await notReady('gateway', 'controller: ')
  await notReady('agent', 'controller: ')
  await kill9('agent')
  await notReady('relay', 'agent: ')
  for (const daemon of ['relay', 'gateway']) assert.equal((await http(daemon, '/live')).status, 200, `${daemon} lives`)
  await quickstart('up')
  for (const daemon of DAEMONS) await until(`${daemon} is ready again`, async () => (await http(daemon, '/ready')).ok, 60)
})
