/** The file that pages load: reads the options from its own tag, records page views, and fills `window.eventrouter`. */

import { Analytics } from '@analytics/core'
import eventrouter, { isRefused, reducers } from './index.js'
import { createContext } from './context.js'
import { createStorage } from './stores.js'
import { watchNavigation } from './navigation.js'

const NAME = 'eventrouter'
const METHODS = ['track', 'identify', 'page', 'group', 'alias', 'reset', 'consent', 'flush', 'ready']
/** Those before which the page that is shown has to be viewed. */
const VIEWING = METHODS.filter((method) => !['consent', 'ready'].includes(method))

const tag = document.currentScript || document.querySelector('script[data-write-key]')

/** `call`, as a page may have it: our errors are no business of the page's; they are told in the console. */
const guard =
  (call) =>
  async (...args) => {
    try {
      return await call(...args)
    } catch (error) {
      console.error(`${NAME}:`, error)
    }
  }

const words = (text) => (text || '').split(/[\s,]+/).filter(Boolean)

function readOptions({ writeKey, host, hash, consent, respect, cookie, cookieDomain }) {
  return {
    writeKey,
    host: host || new URL('.', tag.src).href,
    hash: hash !== undefined && hash !== 'false',
    consent: Object.fromEntries(words(consent).map((category) => [category, true])),
    respect: words(respect),
    cookieDomain,
    ...(cookie && { cookie: cookie !== 'false' && cookie }),
  }
}

/** An API that does nothing, for visitors whose browser says no. */
function refuse() {
  const nothing = () => false
  return Object.fromEntries(METHODS.map((method) => [method, nothing]))
}

function connect(options, now) {
  const context = createContext(options.hash)
  const instance = Analytics({ storage: createStorage(), reducers, plugins: [eventrouter(options, { context, now })] })
  const api = {
    ...instance.plugins[NAME],
    analytics: instance,
    track(name, ...more) {
      if (!name || typeof name !== 'string') throw new TypeError('track needs the name of an event')
      return instance.track(name, ...more)
    },
    reset: instance.reset,
    identify: (userId, traits, own) =>
      Object(userId) === userId
        ? instance.identify(userId, traits, own)
        : instance.identify(userId == null ? null : String(userId), traits || {}, own),
    page(...args) {
      context.view()
      const name = typeof args[0] === 'string' ? { name: args.shift() } : {}
      // `analytics` prefers a canonical link, which a single-page navigation leaves as it was.
      return instance.page({ ...context.page(), ...name, ...args[0] }, args[1])
    },
  }
  if (tag.dataset.autoPage !== 'false') {
    const { settle, seen } = watchNavigation(guard(api.page), options.hash)
    for (const method of VIEWING) {
      const call = api[method]
      api[method] = (...args) => {
        if (method === 'page') seen()
        else settle()
        return call(...args)
      }
    }
  }
  return api
}

const start = guard(() => {
  if (!tag || !tag.dataset.writeKey) throw new Error("the script's tag needs data-write-key")
  const waiting = window[NAME] || []
  if (waiting.analytics) return // the page has the tag twice
  const options = readOptions(tag.dataset)
  // This file may come long after a call: the time of the call counts.
  let calledAt
  const api = isRefused(options.respect) ? refuse() : connect(options, () => calledAt || Date.now())
  api.ready = (callback) => {
    if (typeof callback !== 'function') throw new TypeError('ready needs a function')
    queueMicrotask(() => callback(api)) // its errors are the page's, and cost no other call
  }
  for (const method of METHODS) api[method] = guard(api[method])

  /** Makes a call: `['track', 'Signed Up']`, or with the time first. */
  const make = guard((call) => {
    const at = typeof call[0] === 'number' && call[0]
    const [method, ...args] = at ? call.slice(1) : call
    if (!METHODS.includes(method)) return
    calledAt = at
    api[method](...args)
    calledAt = undefined
  })

  const calls = Array.from(waiting)
  api.push = (...more) => more.forEach((call) => make(call))
  window[NAME] = api
  // For who has kept the first.
  for (const method of ['push', ...METHODS]) waiting[method] = api[method]
  api.push(...calls)
})

if (document.prerendering) document.addEventListener('prerenderingchange', start, { once: true })
else start()
