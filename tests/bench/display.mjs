// The suite `display`: from a change of the guest's screen to a person's eyes, beside what websockify and
// spice-html5 make of the same screen. docs/benchmarks.md says what each figure means.
import { Suite } from './suite.mjs'
import { Stage } from './stage.mjs'
import { bytesOfWork, changeToSocket, firstPicture, relayedVideo } from './display-wire.mjs'
import { framesShown, keyToPixel, oldPc } from './display-eyes.mjs'
import { badLine, reconnection } from './display-line.mjs'
import { memory } from './display-memory.mjs'
import { edgeWork, fuzzing, raw } from './display-rest.mjs'

const PARTS = {
  changeToSocket, firstPicture, bytesOfWork, keyToPixel, framesShown, badLine, oldPc, reconnection, relayedVideo, memory, raw, edgeWork,
}

const suite = new Suite('display')
const stage = new Stage(suite)
await suite.run(async () => {
  try {
    await suite.parts([fuzzing], stage)
    await stage.setUp()
    // VIDI_BENCH_PARTS names some of them, for whoever works on one.
    const names = process.env.VIDI_BENCH_PARTS?.split(',') ?? Object.keys(PARTS)
    for (const name of names) {
      const began = performance.now()
      await suite.alone([PARTS[name]], stage)
      console.error(`== ${name}: ${Math.round((performance.now() - began) / 1000)} s`)
    }
  } finally {
    await suite.closeAll()
    await stage.tearDown()
  }
})
