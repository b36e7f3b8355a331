import { attempt } from './attempt.js'
import { readCookie, writeCookie } from './cookie.js'
import { uuid } from './uuid.js'

/** Where `analytics` keeps its ids (in localStorage in browsers). */
const ANONYMOUS_KEY = '__anon_id'
const USER_KEY = '__user_id'

const parse = (text) => attempt(() => JSON.parse(text), text)

/**
 * Who acts in this browser, known at once.
 *
 * `analytics` changes ids a moment after a call; this one says at every moment what the calls so far amount to, and
 * what other tabs and the collector's cookie have made of it. In a browser the anonymous id is in `analytics`' storage
 * and in the cookie, and the cookie wins: only the collector can set one that lasts.
 *
 * @param {object} analytics the instance
 * @param {{cookie: string | false, cookieDomain?: string}} options
 */
export function createIdentity(analytics, { cookie, cookieDomain }) {
  const page = typeof document === 'object'
  let { userId, anonymousId } = analytics.user()

  function adopt(id) {
    anonymousId = id
    if (page && cookie && readCookie(cookie) !== id) writeCookie(cookie, id, cookieDomain)
  }

  /** The anonymous id; mends whichever of its two places has lost it. */
  function current() {
    const told = page && cookie && readCookie(cookie)
    if (told) anonymousId = told
    else if (anonymousId) adopt(anonymousId)
    else adopt(uuid())
    if (analytics.storage.getItem(ANONYMOUS_KEY) !== anonymousId) analytics.setAnonymousId(anonymousId)
    return anonymousId
  }

  analytics.on('setItemStart', ({ payload: { key, value } }) => {
    if (key === ANONYMOUS_KEY && value && value !== anonymousId) adopt(value)
  })
  analytics.on('identifyStart', ({ payload }) => {
    if (payload.userId) userId = payload.userId
  })
  analytics.on('resetStart', () => {
    userId = undefined
    adopt(uuid())
  })
  // At a reset, `analytics` empties its storage some time later.
  analytics.on('removeItemEnd', ({ payload }) => payload.key === ANONYMOUS_KEY && current())
  if (page) {
    addEventListener('storage', ({ key, newValue }) => {
      if (key === USER_KEY) userId = parse(newValue) || undefined
      if (key === ANONYMOUS_KEY && newValue) adopt(parse(newValue))
    })
    current()
  }

  return { read: () => ({ userId, anonymousId: current() }) }
}
