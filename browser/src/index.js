import { createConsent } from './consent.js'
import { createContext } from './context.js'
import { createIdentity } from './identity.js'
import { createQueue } from './queue.js'
import { createSender } from './sender.js'
import { openStores } from './stores.js'
import { uuid } from './uuid.js'

export { VERSION } from './version.js'

const NAME = 'eventrouter'
const DAY = 86_400_000

const DEFAULTS = {
  flushAt: 20,
  flushInterval: 1_000,
  maxEvents: 1_000,
  maxBytes: 2_000_000,
  maxAge: 7 * DAY,
  cookie: 'er_anonymous_id',
  consent: {},
}

const page = typeof document === 'object'

/** Whether the visitor's browser says no by one of `signals`: `gpc` (Global Privacy Control), `dnt` (Do Not Track). */
export const isRefused = (signals = []) =>
  page &&
  ((signals.includes('gpc') && navigator.globalPrivacyControl === true) ||
    (signals.includes('dnt') && navigator.doNotTrack === '1'))

/**
 * Reducers for `analytics` that keep the last call alone. Its own ones keep every call of a page's or a process's life.
 */
export const reducers = {
  track: (state = { last: {}, history: [] }, action) => (action.type === 'track' ? keep(action) : state),
  page: (state = { last: {}, history: [] }, action) => (action.type === 'page' ? keep(action) : state),
}

const keep = ({ event, properties, options, meta }) => ({ last: { event, properties, options, meta }, history: [] })

/** The plugin for a visitor whose browser says no: it sends and stores nothing. */
function refuse() {
  const nothing = () => {}
  const methods = { group: nothing, alias: nothing, consent: nothing, flush: async () => false }
  return { name: NAME, config: {}, methods }
}

/**
 * A plugin for `analytics` that sends its events to eventrouter. `index.d.ts` tells its options.
 *
 * An event says when, where and by whom a call was made, not what is true when `analytics` comes to hand it over, a few
 * turns of the event loop later: hence the `…Start` listeners, which `analytics` calls within the call.
 */
export default function eventrouter(options, parts = {}) {
  const { writeKey, host, consent: initial, ...settings } = { ...DEFAULTS, ...options }
  if (!writeKey || !host) throw new Error('eventrouter: the options `writeKey` and `host` are needed')
  if (isRefused(settings.respect)) return refuse()
  const retry = { initial: 1_000, max: 300_000, ...settings.retry }

  const prefix = `eventrouter.${writeKey}.`
  const stores = openStores()
  const lost = (count) => console.warn(`eventrouter: ${count} of the oldest events were dropped, the queue is full`)
  const queue = createQueue(stores, `${prefix}event.`, settings, lost)
  const address = String(host).replace(/\/*$/, '/')
  const sender = createSender(queue, stores[0], { ...settings, retry, writeKey, prefix, host: address })
  const { context = createContext(settings.hash), now = Date.now } = parts
  const consent = createConsent(stores[0], 'eventrouter.consent', initial)

  let identity
  const moments = new WeakMap()
  const taken = new WeakSet()

  function moment() {
    const categoryPreferences = consent.read()
    const about = context.describe()
    if (Object.keys(categoryPreferences).length) about.consent = { categoryPreferences }
    return { ...identity.read(), at: now(), about }
  }

  function send(type, fields, { userId, anonymousId, timestamp, integrations, context: more } = {}, then = moment()) {
    const who = userId || then.userId
    try {
      sender.push({
        type,
        messageId: uuid(),
        timestamp: new Date(timestamp || then.at).toISOString(),
        userId: who || undefined,
        // A server's process is nobody's device: its anonymous id would tie all users together.
        anonymousId: anonymousId || (page || !who ? then.anonymousId : undefined),
        ...fields,
        context: { ...then.about, ...more },
        integrations,
      })
    } catch (error) {
      console.error(`eventrouter: a ${type} event was dropped:`, error)
    }
  }

  function record({ type, meta, userId, event, properties = {}, traits, options: own }) {
    // `analytics` hands over a call twice when it was made offline: we take the first.
    if (taken.has(meta)) return
    taken.add(meta)
    const then = moments.get(meta) || moment()
    if (type === 'identify') then.userId = userId
    else if (!page) then.userId = then.userId || properties.userId
    const { name, category } = properties
    const fields = { track: { event, properties }, page: { name, category, properties }, identify: { traits } }
    send(type, fields[type], own, then)
  }

  const handle = ({ payload }) => record(payload)

  return {
    name: NAME,
    config: {},

    bootstrap({ instance }) {
      identity = createIdentity(instance, settings)
      for (const type of ['track', 'page', 'identify']) {
        instance.on(`${type}Start`, ({ payload }) => {
          if (type === 'page') context.view()
          moments.set(payload.meta, moment())
        })
      }
      // Offline, `analytics` keeps calls in memory, where they would end with the page.
      instance.on('queue', ({ payload }) => payload.plugin === NAME && record(payload.payload))
      sender.resume()
    },

    track: handle,
    page: handle,
    identify: handle,

    methods: {
      group(groupId, traits, own) {
        send('group', { groupId, traits: traits || {} }, own || undefined)
      },

      alias(userId, previousId, own) {
        const then = moment()
        send('alias', { userId, previousId: previousId || then.userId || then.anonymousId }, own || undefined, then)
      },

      consent: (preferences) => consent.set(preferences),

      // After the calls that were made before it have arrived here.
      flush: () => new Promise((resolve) => setTimeout(resolve)).then(() => sender.flush(true)),
    },
  }
}
