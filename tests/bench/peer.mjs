// The peer: Debian's spice-html5, served by websockify, on a guest like ours under plain QEMU.
import { randomBytes, randomUUID } from 'node:crypto'
import { spawn } from 'node:child_process'
import { appendFile, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { freePort } from '../e2e/port.mjs'
import { until } from '../e2e/stack.mjs'

export const PEER = 'spice-html5+websockify'
const PAGES = '/usr/share/spice-html5'

// A boot takes 4 s of a free core under TCG; this leaves room for a busy machine.
const BOOT_SECONDS_MAX = 120
const END_SECONDS_MAX = 10

// Starts guest and server; `template` is a folder of packaging/images/build, `scratch` is for sockets,
// `pids` names a file where every process is written down, for a caller that outlives this one.
export async function startPeer({ template, scratch, pids }) {
  const ticket = randomBytes(12).toString('hex')
  const spicePort = await freePort()
  const guest = await startGuest({ template, scratch, ticket, spicePort, pids })
  try {
    const server = await serveSpiceHtml5({ spicePort, ticket, pids })
    return { ...server, guest: guest.pid, stop: () => Promise.all([server.stop(), end(guest)]) }
  } catch (error) {
    await end(guest)
    throw error
  }
}

// Serves the peer's pages for a SPICE server at this port of the loopback.
export async function serveSpiceHtml5({ spicePort, ticket, pids }) {
  const httpPort = await freePort()
  const server = start('websockify', ['--web', PAGES, `127.0.0.1:${httpPort}`, `127.0.0.1:${spicePort}`], pids)
  try {
    await until('websockify', async () => {
      alive(server)
      return (await fetch(`http://127.0.0.1:${httpPort}/spice_auto.html`)).ok
    })
  } catch (error) {
    await end(server)
    throw error
  }
  const at = (port) => `http://127.0.0.1:${port}/spice_auto.html?host=127.0.0.1&port=${port}&password=${ticket}`
  return { url: at(httpPort), at, port: httpPort, server: server.pid, stop: () => end(server) }
}

// The devices are those that the agent writes into a domain (agent/hypervisor/src/libvirt/xml.rs): a guest
// that writes to a serial console or answers a balloon works for it. Image compression stays at QEMU's
// default: the peer's first picture comes in half the time that it takes without (0.4 s against 0.9 s).
async function startGuest({ template, scratch, ticket, spicePort, pids }) {
  const manifest = await readFile(join(template, 'template.toml'), 'utf8')
  const value = (key) => {
    const match = new RegExp(`^${key} = "?([^"\n]*)"?$`, 'm').exec(manifest)
    if (!match) throw new Error(`${template}/template.toml has no ${key}`)
    return match[1]
  }
  const [port, agent] = ['peer-port', 'peer-agent'].map((name) => join(scratch, name))
  const id = randomUUID()
  const guest = start('qemu-system-x86_64', [
    '-accel', 'tcg,tb-size=64', '-machine', 'q35', '-nodefaults', '-display', 'none',
    '-m', value('memory_mib'), '-smp', value('vcpus'), '-uuid', id,
    '-kernel', join(template, value('kernel')), '-initrd', join(template, value('initrd')),
    '-append', value('cmdline'),
    '-drive', `file=${join(template, value('file'))},if=virtio,snapshot=on`,
    '-device', 'qxl-vga,ram_size=67108864,vram_size=67108864,vgamem_mb=16,max_outputs=4',
    '-device', 'qemu-xhci', '-device', 'usb-tablet', '-device', 'virtio-keyboard-pci',
    '-chardev', 'pty,id=serial', '-device', 'isa-serial,chardev=serial',
    '-device', 'virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on,guest-stats-polling-interval=1',
    '-object', 'rng-random,id=random,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=random',
    '-device', 'virtio-serial-pci',
    '-chardev', 'spicevmc,id=vdagent,name=vdagent',
    '-device', 'virtserialport,chardev=vdagent,name=com.redhat.spice.0',
    '-chardev', `socket,id=agent,path=${agent},server=on,wait=off`,
    '-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0',
    '-chardev', `socket,id=port,path=${port},server=on,wait=off`,
    '-device', 'virtserialport,chardev=port,name=dev.vidi.guest.0',
    '-object', `secret,id=ticket,data=${ticket}`,
    '-spice', `addr=127.0.0.1,port=${spicePort},password-secret=ticket,streaming-video=off`,
  ], pids)
  try {
    await ready(guest, port, id)
    return guest
  } catch (error) {
    await end(guest)
    throw error
  }
}

// Waits for the guest's own word, and answers it, as the agent does.
async function ready(guest, path, id) {
  const socket = await until('the peer guest\'s port', () => {
    alive(guest)
    return new Promise((resolve, reject) => {
      const socket = connect(path, () => resolve(socket))
      socket.on('error', reject)
    })
  })
  let said = ''
  socket.on('data', (data) => (said = (said + data.toString('latin1')).slice(-65536)))
  await until('the peer guest', () => {
    alive(guest)
    return said.includes(`ready ${id}\n`)
  }, BOOT_SECONDS_MAX)
  socket.write('ok\n')
  guest.port = socket
}

function start(file, args, pids) {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  child.words = ''
  const keep = (data) => (child.words = (child.words + data).slice(-4096))
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  child.ended = new Promise((resolve) => {
    child.on('error', (error) => {
      keep(error.message)
      resolve()
    })
    child.on('close', resolve)
  })
  child.file = file
  if (child.pid) appendFile(pids, `${child.pid} ${file}\n`).catch(() => {})
  return child
}

function alive(child) {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
    throw new Error(`${child.file} ended: ${child.words.trim()}`)
  }
}

async function end(child) {
  child.port?.destroy()
  if (child.pid === undefined) return
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), END_SECONDS_MAX * 1000)
  await child.ended
  clearTimeout(timer)
}
