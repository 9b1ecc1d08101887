// Bad input and faults, on the real thing: an error that says what is wrong and what to do; nothing
// panics, nothing is half made, and the user's desktop is still there to be opened.
import { after, before } from 'node:test'
import { command, root } from './stack.mjs'
import { begin, end } from './faults/common.mjs'
import certificates from './faults/certificates.mjs'
import configuration from './faults/configuration.mjs'
import listeners from './faults/listeners.mjs'
import signIn from './faults/sign-in.mjs'
import surroundings from './faults/surroundings.mjs'
import templates from './faults/templates.mjs'

before(async () => {
  await command('bash', '-c', '. "$1/packaging/lib/common.sh"; ensure_packages openssl libnss3-tools', 'faults', root)
  await begin()
})

after(end)

configuration()
signIn()
listeners()
certificates()
templates()
surroundings()
