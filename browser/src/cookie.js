import { attempt } from './attempt.js'

/** What a cookie holds without quotes or escapes, so that the collector reads the same. */
const PLAIN = /^[!#-+\--:<-[\]-~]{1,255}$/

const YEAR = 31_536_000

// A sandboxed frame may not even ask for cookies: that throws.
const values = (name) =>
  attempt(() => document.cookie, '')
    .split(/; */)
    .filter((part) => part.startsWith(`${name}=`))
    .map((part) => part.slice(name.length + 1))

const set = (name, value, domain, age) =>
  attempt(
    () =>
      (document.cookie =
        `${name}=${value}; path=/; max-age=${age}; samesite=lax` +
        (domain ? `; domain=${domain}` : '') +
        (location.protocol === 'https:' ? '; secure' : '')),
  )

/** The cookie's value; undefined without one. */
export function readCookie(name) {
  // One of this host beside one of the whole site, and they disagree: the site's stays.
  if (new Set(values(name)).size > 1) set(name, '', '', 0)
  return values(name)[0] || undefined
}

/** Sets the cookie for a year, for `domain` or else for the widest one that the browser allows this page. */
export function writeCookie(name, value, domain) {
  if (!PLAIN.test(value)) return
  const host = location.hostname
  const parts = host.split('.')
  const isName = /[a-z]/i.test(host) && parts.length > 1 && !host.includes(':')
  // example.co.uk: browsers refuse co.uk, and take the next.
  const wider = isName ? parts.slice(1).map((_, index) => parts.slice(-2 - index).join('.')) : []
  for (const one of domain ? [domain] : [...wider, '']) {
    set(name, value, one, YEAR)
    if (readCookie(name) === value) return
  }
}
