// Sound, microphone and files between a browser and a desktop: what is played is heard as a tone, what is
// said is recorded, what is dropped is on the disk.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { guestRun, results, until } from './stack.mjs'

// A microphone that beeps, and nobody who would have to allow it; no sound card is needed.
export const FLAGS = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', '--mute-audio']

// Before the page is loaded: what goes to the speakers is measured as well.
export function listen(page) {
  return page.addInitScript(() => {
    const { connect } = AudioNode.prototype
    AudioNode.prototype.connect = function (to, ...rest) {
      if (this instanceof GainNode && to instanceof AudioDestinationNode) {
        const meter = this.context.createAnalyser()
        meter.fftSize = 8192
        meter.smoothingTimeConstant = 0
        connect.call(this, meter)
        globalThis.meter = meter
      }
      return connect.call(this, to, ...rest)
    }
  })
}

// The loudest tone that goes to the speakers: its frequency, and how loud it is in decibels.
function tone(page) {
  return page.evaluate(() => {
    const { meter } = globalThis
    if (!meter) return undefined
    const levels = new Float32Array(meter.frequencyBinCount)
    meter.getFloatFrequencyData(levels)
    let loudest = 0
    levels.forEach((level, at) => level > levels[loudest] && (loudest = at))
    return { hertz: (loudest * meter.context.sampleRate) / meter.fftSize, decibels: levels[loudest] }
  })
}

// A program of the guest plays a tone; it is what the browser plays.
export async function playsTone(page, domain, hertz) {
  await guestRun(domain, `setsid timeout 40 speaker-test -c 2 -t sine -f ${hertz} >/tmp/speaker-test.log 2>&1 </dev/null &`)
  let heard
  try {
    await until(`a tone of ${hertz} Hz`, async () => {
      heard = await tone(page)
      return heard && Math.abs(heard.hertz - hertz) < 12 && heard.decibels > -50
    }, 30)
  } catch (error) {
    const log = await guestRun(domain, 'cat /tmp/speaker-test.log; aplay -l')
    throw new Error(`${error.message}; heard ${JSON.stringify(heard)}; the guest: ${log}`)
  } finally {
    await guestRun(domain, 'pkill -x speaker-test || true')
  }
  return heard
}

// A program of the guest records while the person's microphone is on; what it hears is not silence.
export async function hearsMicrophone(page, domain) {
  await page.getByTestId('toolbar-show').click()
  await page.getByTestId('toolbar-microphone').click()
  await page.getByTestId('microphone-sign').waitFor()
  await guestRun(domain, 'timeout 20 arecord -q -d 4 -f S16_LE -r 48000 -c 2 /tmp/heard.wav')
  await page.getByTestId('microphone-stop').click()
  await page.getByTestId('microphone-sign').waitFor({ state: 'detached' })
  const loudest = await guestRun(domain, `perl -e '
    open my $file, "<:raw", "/tmp/heard.wav" or die; local $/; my @samples = unpack "s<*", substr <$file>, 44;
    my $most = 0; for (@samples) { $most = abs if abs > $most } printf "%d of %d\\n", $most, scalar @samples'`)
  const [most, , samples] = loudest.trim().split(' ').map(Number)
  assert.ok(samples > 2 * 48_000 * 3, `${samples} samples were recorded`)
  assert.ok(most > 500, `the loudest of what the guest recorded is ${most} of 32767`)
  return most
}

// Files that are dropped and chosen are in the guest, byte for byte.
export async function takesFiles(page, domain, large) {
  const dropped = `dropped ${Date.now()} ñ.txt`
  const text = 'What was dropped.\n'
  const transfer = await page.evaluateHandle(([name, text]) => {
    const transfer = new DataTransfer()
    transfer.items.add(new File([text], name))
    return transfer
  }, [dropped, text])
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    await page.getByTestId('desktop-canvas').dispatchEvent(kind, { dataTransfer: transfer })
  }
  const bytes = randomBytes(large)
  const chosen = join(results, 'chosen.bin')
  await writeFile(chosen, bytes)
  await page.getByTestId('toolbar-show').click()
  await page.getByTestId('files-input').setInputFiles(chosen)
  const began = Date.now()
  await until('both files', async () => {
    const states = await page.locator('[data-testid^="transfer-"][data-state]').evaluateAll((all) => all.map((one) => [one.dataset.state, one.textContent]))
    const failed = states.find(([state]) => state === 'failed')
    assert.equal(failed, undefined, `a file failed: ${failed}`)
    return states.length === 2 && states.every(([state]) => state === 'done')
  }, 60)
  const seconds = (Date.now() - began) / 1000
  const sum = (name) => guestRun(domain, `sha256sum '/home/user/Downloads/${name}'`)
  const digest = (data) => createHash('sha256').update(data).digest('hex')
  assert.ok((await sum(dropped)).startsWith(digest(text)), 'the dropped file is whole')
  assert.ok((await sum('chosen.bin')).startsWith(digest(bytes)), 'the chosen file is whole')
  await page.getByTestId('transfers-clear').click()
  return large / seconds
}
