// Signs in as the administrator and waits until the page of administrators is there: URL, password.
import { open, photograph, signIn } from '../e2e/browser.mjs'

// An emulated machine that has just started everything takes its time.
const MS_MAX = 180_000
const [url, password] = process.argv.slice(2)
const browser = await open()
try {
  browser.context.setDefaultTimeout(MS_MAX)
  await signIn(browser.page, url, 'admin', password)
  await browser.page.getByTestId('app-list').waitFor({ state: 'attached' })
  await browser.page.goto(`${url}admin`)
  await browser.page.getByTestId('admin-desktops').waitFor()
  await photograph(browser.page, 'installed')
} finally {
  await browser.close()
}
