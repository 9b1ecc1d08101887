// What runs on this machine: proc(5).
import { execFile } from 'node:child_process'
import { readFile, readdir } from 'node:fs/promises'
import { promisify } from 'node:util'

// All processes: {pid, parent, command, status}.
export async function processes() {
  const all = []
  for (const name of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const [command, stat, status] = await Promise.all(['cmdline', 'stat', 'status'].map((file) => readFile(`/proc/${name}/${file}`, 'utf8').catch(() => '')))
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (stat) all.push({ pid: Number(name), parent: Number(fields[1]), command, status })
  }
  return all
}

// Of all processes these, and what they have started.
export function below(all, pids) {
  const wanted = new Set(pids)
  for (let size = -1; size !== wanted.size;) {
    size = wanted.size
    for (const { pid, parent } of all) if (wanted.has(parent)) wanted.add(pid)
  }
  return all.filter(({ pid }) => wanted.has(pid))
}

// The processor time that these processes have taken until now, all their threads together, in seconds. By
// their clocks (clock_getcpuclockid(3)), which count nanoseconds: proc(5) counts hundredths of a second, of
// which an edge takes a few. websockify needs Python too.
export async function processorSeconds(pids) {
  const program = 'import sys, time; print(sum(time.clock_gettime(~int(pid) << 3 | 2) for pid in sys.argv[1:]))'
  const { stdout } = await promisify(execFile)('python3', ['-c', program, ...pids.map(String)])
  return Number(stdout)
}
