// Tests that each go on where the one before ended.
import { test } from 'node:test'

// Gives the function that declares one: after a failure the rest would only repeat it. `failed` keeps
// what is to be seen then; `options` are those of node:test.
export function steps(failed, options = {}) {
  let broken = false
  return (name, body) => test(name, options, async (context) => {
    if (broken) return context.skip('an earlier step failed')
    try {
      await body()
    } catch (error) {
      broken = true
      await failed()
      throw error
    }
  })
}
