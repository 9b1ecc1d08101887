// What axe finds wrong with a page for people who do not see it well, or use no mouse.
import { AxeBuilder } from '@axe-core/playwright'

const violationsOf = async (page) => (await new AxeBuilder({ page }).analyze()).violations

// Everything, each with the first place where it is.
export const accessFaults = async (page) => (await violationsOf(page)).map(({ id, nodes }) => `${id} ${nodes[0]?.target}`)

// What keeps people from using the page.
export const seriousFaults = async (page) =>
  (await violationsOf(page)).filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id }) => id)
