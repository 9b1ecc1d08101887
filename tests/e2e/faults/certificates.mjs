// Who shows the wrong certificate, or none, is refused; the page's certificate holds for a browser
// that trusts the installation's page CA and ignores nothing.
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { open, signIn } from '../browser.mjs'
import { ended, fault, folder, state, world } from './common.mjs'
import { framed, grpc } from './wire.mjs'

const CONTROLLER = 'controller.vidi.internal'
const INVALID_ARGUMENT = 3
const UNAUTHENTICATED = 16
const PERMISSION_DENIED = 7

const openssl = async (...args) => {
  const { code, text } = await ended('openssl', args)
  assert.equal(code, 0, text)
}

// A certificate that says everything ours say, by a CA that is not ours.
async function foreignCertificate() {
  const dir = await folder('foreign')
  const at = (name) => join(dir, name)
  const own = new X509Certificate(await readFile(join(state, 'lib/gateway/pki/cert.pem')))
  const names = own.subjectAltName.replaceAll(', ', ',')
  await openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=another CA', '-keyout', at('ca.key'), '-out', at('ca.pem'))
  await openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=x', '-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-addext', `subjectAltName=${names}`, '-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', at('key.pem'), '-out', at('cert.pem'))
  return { cert: await readFile(at('cert.pem')), key: await readFile(at('key.pem')) }
}

const gatewaysOwn = async () => ({
  cert: await readFile(join(state, 'lib/gateway/pki/cert.pem')), key: await readFile(join(state, 'lib/gateway/pki/key.pem')),
})

export default function () {
  fault('relay: no certificate, or another CA\'s, is refused', {}, async () => {
    const { relay_port: port } = world.ports
    for (const [who, tls] of [['nobody', {}], ['another CA', await foreignCertificate()]]) {
      const answer = await grpc(port, 'Relay/Attach', framed(Buffer.alloc(0)), { tls: { servername: 'localhost', ...tls } })
      assert.ok(answer.status === undefined && answer.error && answer.error !== 'no answer', `${who} is let in: ${JSON.stringify(answer)}`)
    }
  })

  fault('relay: the gateway\'s own certificate without a valid grant opens nothing', {}, async () => {
    const { relay_port: port } = world.ports
    const tls = { servername: 'localhost', ...(await gatewaysOwn()) }
    const grant = Buffer.concat([Buffer.from([0x0a, 0x04]), Buffer.from('none')])
    for (const body of [Buffer.alloc(0), framed(Buffer.alloc(0)), framed(grant), framed(Buffer.from([0xff, 0xff, 0xff])), framed(Buffer.alloc(10), 0xffffffff)]) {
      for (const method of ['Relay/Attach', 'Relay/Channel', 'AgentLink/FetchImage', 'Relay/Nothing']) {
        const answer = await grpc(port, method, body, { tls })
        assert.ok(answer.status !== 0 && !answer.data && (answer.status || answer.error) && answer.error !== 'no answer', `${method}: ${JSON.stringify(answer)}`)
      }
    }
  })

  fault('controller: another CA\'s certificate is refused, and none has no rights', {}, async () => {
    const { grpc_port: port } = world.ports
    const foreign = await grpc(port, 'GatewayLink/IssueGrant', framed(Buffer.alloc(0)), { tls: { servername: CONTROLLER, ...(await foreignCertificate()) } })
    assert.ok(foreign.status === undefined && foreign.error && foreign.error !== 'no answer', `another CA is let in: ${JSON.stringify(foreign)}`)
    for (const [method, tls] of [
      ...['GatewayLink/IssueGrant', 'GatewayLink/CertifyPage', 'AgentLink/FetchImage', 'AgentLink/CertifyRelay', 'DesktopService/ListDesktops', 'HostService/CreateEnrollToken', 'UserService/ListUsers', 'EnrollService/Renew'].map((name) => [name, {}]),
      // A gateway has no rights beyond its link.
      ...['AgentLink/FetchImage', 'AgentLink/CertifyRelay', 'DesktopService/ListDesktops', 'HostService/CreateEnrollToken'].map((name) => [name, 'gateway']),
    ]) {
      const own = tls === 'gateway' ? await gatewaysOwn() : {}
      const answer = await grpc(port, method, framed(Buffer.alloc(0)), { tls: { servername: CONTROLLER, ...own } })
      assert.ok([UNAUTHENTICATED, PERMISSION_DENIED].includes(answer.status), `${method} as ${tls === 'gateway' ? tls : 'nobody'}: ${JSON.stringify(answer)}`)
      assert.ok(answer.message.length > 10, `${method}: "${answer.message}"`)
    }
    // EnrollRequest: token_secret = 1, role = 2.
    const request = Buffer.concat([Buffer.from([0x0a, 4]), Buffer.from('nope'), Buffer.from([0x12, 5]), Buffer.from('agent')])
    const enrol = await grpc(port, 'EnrollService/Enroll', framed(request), { tls: { servername: CONTROLLER } })
    assert.ok([INVALID_ARGUMENT, PERMISSION_DENIED, UNAUTHENTICATED].includes(enrol.status), JSON.stringify(enrol))
    const reflection = await grpcPath(port, '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo')
    assert.notEqual(reflection.status, 0, 'reflection is for those who signed in')
  })

  fault('keys are for their owners only', { opens: false }, async () => {
    for (const path of ['etc/controller.key', 'lib/controller/admin-password', 'lib/gateway/pki/key.pem', 'lib/gateway/page/key.pem', 'lib/agent/pki/key.pem', 'lib/relay/key.pem']) {
      const found = await stat(join(state, path)).catch(() => undefined)
      if (found) assert.equal(found.mode & 0o077, 0, `${path} can be read by others`)
      else assert.match(path, /relay|agent/, `${path} is not there`)
    }
  })

  fault('a browser that trusts the page CA opens the page with nothing ignored', { opens: false }, async () => {
    const ca = join(state, 'lib/controller/page-ca.pem')
    const home = await folder('home')
    const database = join(home, '.pki/nssdb')
    await folder('home/.pki/nssdb')
    for (const args of [['-N', '--empty-password'], ['-A', '-n', 'vidi pages', '-t', 'C,,', '-i', ca]]) {
      const { code, text } = await ended('certutil', ['-d', `sql:${database}`, ...args])
      assert.equal(code, 0, text)
    }
    const stranger = await browserOf(await folder('stranger'))
    try {
      await assert.rejects(stranger.page.goto(world.access.url), /ERR_CERT_AUTHORITY_INVALID/, 'without the CA it is refused')
    } finally {
      await stranger.close()
    }
    const browser = await browserOf(home)
    try {
      const security = []
      browser.page.on('response', async (response) => security.push(await response.securityDetails()))
      await signIn(browser.page, world.access.url, world.access.user, world.access.password)
      await browser.page.getByTestId('app-list').waitFor()
      assert.ok(security.length > 0 && security[0].protocol.startsWith('TLS 1.'), JSON.stringify(security[0]))
      assert.deepEqual(browser.problems, [])
    } finally {
      await browser.close()
    }
    await certificateNames(await readFile(ca))
  })
}

const grpcPath = (port, path) => grpc(port, 'x', framed(Buffer.alloc(0)), { tls: { servername: CONTROLLER }, headers: { ':path': path } })

// Chromium looks for trusted CAs below its HOME.
async function browserOf(home) {
  const before = process.env.HOME
  process.env.HOME = home
  try {
    return await open({ ignoreCertificate: false })
  } finally {
    process.env.HOME = before
  }
}

// By Node's own check: the loopback names hold, nothing else does, 397 days at most (CA/Browser forum).
async function certificateNames(ca) {
  const checked = (servername, host = '127.0.0.1') => new Promise((resolve) => {
    const socket = connect({ host, port: world.ports.https_port, ca, servername }, () => {
      resolve(socket.getPeerX509Certificate())
      socket.destroy()
    })
    socket.on('error', (error) => resolve(error.code))
  })
  const certificate = await checked('localhost')
  assert.ok(certificate instanceof X509Certificate, `localhost: ${certificate}`)
  const days = (new Date(certificate.validTo) - new Date(certificate.validFrom)) / 86_400_000
  assert.ok(days <= 398, `${days} days`)
  assert.ok(certificate.checkIP('127.0.0.1') && certificate.checkIP('::1'), certificate.subjectAltName)
  assert.equal(await checked('somebody.else'), 'ERR_TLS_CERT_ALTNAME_INVALID')
  assert.equal(certificate.ca, false)
}
