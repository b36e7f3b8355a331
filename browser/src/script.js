/** The file that pages load: reads the options from its own tag, records page views, and fills `window.eventrouter`. */

import { Analytics } from '@analytics/core'
import eventrouter, { isRefused, reducers } from './index.js'
import { createContext } from './context.js'
import { createStorage } from './stores.js'
import { watchNavigation } from './navigation.js'

const NAME = 'eventrouter'
const METHODS = ['track', 'identify', 'page', 'group', 'alias', 'reset', 'consent', 'flush', 'ready']

const tag = document.currentScript || document.querySelector('script[data-write-key]')

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
  const nothing = () => Promise.resolve(false)
  return Object.fromEntries(METHODS.map((method) => [method, nothing]))
}

function connect(options, now) {
  const context = createContext(options.hash)
  const instance = Analytics({ storage: createStorage(), reducers, plugins: [eventrouter(options, { context, now })] })
  const api = {
    ...instance.plugins[NAME],
    analytics: instance,
    track: instance.track,
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
    const { settle, seen } = watchNavigation(api.page, options.hash)
    for (const method of ['track', 'identify', 'group', 'alias', 'reset', 'flush', 'page']) {
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

function start() {
  if (!tag || !tag.dataset.writeKey) {
    console.error(`${NAME}: the script's tag needs data-write-key`)
    return
  }
  const waiting = window[NAME] || []
  if (waiting.analytics) return // the page has the tag twice
  const options = readOptions(tag.dataset)
  // This file may come long after a call: the time of the call counts.
  let calledAt
  const api = isRefused(options.respect) ? refuse() : connect(options, () => calledAt || Date.now())
  api.ready = (callback) => callback(api)

  /** Makes calls: `['track', 'Signed Up']`, or with the time first. */
  function push(...calls) {
    for (const call of calls) {
      const at = typeof call[0] === 'number' && call[0]
      const [method, ...args] = at ? call.slice(1) : call
      if (!METHODS.includes(method)) continue
      calledAt = method !== 'ready' && at // what its callback calls is called now
      api[method](...args)
      calledAt = undefined
    }
  }

  api.push = push
  window[NAME] = api
  push(...waiting)
  waiting.push = push // for who has kept it
  for (const method of METHODS) waiting[method] = api[method]
}

if (document.prerendering) document.addEventListener('prerenderingchange', start, { once: true })
else start()
