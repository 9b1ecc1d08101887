// What runs on this machine: proc(5).
import { readFile, readdir } from 'node:fs/promises'

// All processes: {pid, parent, command, status, ticks}.
export async function processes() {
  const all = []
  for (const name of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const [command, stat, status] = await Promise.all(['cmdline', 'stat', 'status'].map((file) => readFile(`/proc/${name}/${file}`, 'utf8').catch(() => '')))
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (stat) all.push({ pid: Number(name), parent: Number(fields[1]), command, status, ticks: Number(fields[11]) + Number(fields[12]) })
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
